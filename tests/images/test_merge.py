"""One layer over another: the rules of the OCI specification, and the tricks that they forbid."""

from __future__ import annotations

import tarfile
import tempfile

import pytest

from boxlite.errors import LayerRejected
from boxlite.images.limits import DEFAULT_LIMITS, Limits
from boxlite.images.merge import Merge
from boxlite.images.tar import read_tar
from boxlite.images.tree import Directory, File, Special, Symlink
from tests.images.archives import Member, archive, directory, file, hard_link, symlink


def merged(*layers: list[Member], limits: Limits = DEFAULT_LIMITS) -> dict[str, str]:
    """Every path of the sum of the layers, and what is there: `dir`, a file's size, `-> target`, or a device's kind."""
    return described(merged_tree(*layers, limits=limits))


def merged_tree(*layers: list[Member], limits: Limits = DEFAULT_LIMITS) -> Directory:
    merge = Merge(limits)
    for members in layers:
        with tempfile.TemporaryFile() as spool:
            data = archive(*members)
            spool.write(data)
            spool.flush()
            merge.apply(read_tar(spool.fileno(), 0, len(data)))
    return merge.root


def described(directory: Directory, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, node in directory.entries.items():
        path = prefix + name.decode(errors="backslashreplace")
        match node:
            case Directory():
                found |= {path: "dir"} | described(node, path + "/")
            case File(size=size):
                found[path] = str(size)
            case Symlink(target=target):
                found[path] = f"-> {target.decode()}"
            case Special(kind=kind):
                found[path] = kind.name
    return found


class TestOneLayer:
    def test_missing_parents_are_made(self) -> None:
        tree = merged_tree([file(b"a/b/c", b"1")])
        assert described(tree) == {"a": "dir", "a/b": "dir", "a/b/c": "1"}
        assert tree.entries[b"a"].attributes.mode == 0o755

    def test_dots_and_slashes_in_names_mean_nothing(self) -> None:
        names = [b"./a", b"/b", b"c/", b".//d/./e", b"./"]
        assert merged([directory(name) for name in names]) == dict.fromkeys(["a", "b", "c", "d", "d/e"], "dir")

    def test_the_entry_of_the_root_sets_its_attributes(self) -> None:
        assert merged_tree([directory(b"./", mode=0o700)]).attributes.mode == 0o700

    def test_a_directory_described_after_its_content_keeps_it(self) -> None:
        tree = merged_tree([file(b"d/f"), directory(b"d", mode=0o700)])
        assert described(tree) == {"d": "dir", "d/f": "0"}
        assert tree.entries[b"d"].attributes.mode == 0o700

    def test_of_two_entries_with_one_name_the_last_one_counts(self) -> None:
        assert merged([file(b"a", b"1"), symlink(b"a", b"x"), file(b"a", b"22")]) == {"a": "2"}

    def test_names_need_not_be_utf8_nor_printable(self) -> None:
        tree = merged_tree([file(b"\xff\xfe"), file(b"new\nline"), file(b"\x1b[31m")])
        assert set(tree.entries) == {b"\xff\xfe", b"new\nline", b"\x1b[31m"}

    def test_a_hard_link_to_an_absolute_path_starts_at_the_root_of_the_image(self) -> None:
        """As kaniko writes them."""
        tree = merged_tree([file(b"bin/a", b"1")], [symlink(b"s", b"bin"), hard_link(b"b", b"/s/a")])
        folder = tree.entries[b"bin"]
        assert isinstance(folder, Directory)
        assert tree.entries[b"b"] is folder.entries[b"a"]

    def test_a_hard_link_is_the_same_node(self) -> None:
        tree = merged_tree([file(b"a", b"1"), hard_link(b"b", b"./a"), symlink(b"s", b"a"), hard_link(b"t", b"s")])
        assert tree.entries[b"a"] is tree.entries[b"b"]
        assert tree.entries[b"s"] is tree.entries[b"t"]

    def test_attributes_that_would_steer_the_overlay_in_the_guest_are_dropped(self) -> None:
        xattrs = {"trusted.overlay.opaque": b"y", "user.overlay.redirect": b"/", "user.kept": b"1", "system.acl": b"2"}
        node = merged_tree([file(b"a", xattrs=xattrs)]).entries[b"a"]
        assert node.attributes.xattrs == ((b"user.kept", b"1"),)


class TestLaterLayers:
    def test_a_whiteout_removes_what_is_below(self) -> None:
        lower = [file(b"d/a"), file(b"d/b/c"), file(b"e")]
        assert merged(lower, [file(b"d/.wh.b")]) == {"d": "dir", "d/a": "0", "e": "0"}
        assert merged(lower, [file(b".wh.d")]) == {"e": "0"}

    def test_a_whiteout_of_nothing_known_is_harmless(self) -> None:
        assert merged([file(b"a")], [file(b".wh.b"), file(b"x/y/.wh.c"), file(b"a/.wh.d")]) == {"a": "0"}

    def test_an_opaque_directory_hides_what_is_below_wherever_its_entry_comes(self) -> None:
        lower = [file(b"d/old"), file(b"d/sub/old")]
        for upper in (
            [directory(b"d"), file(b"d/.wh..wh..opq"), file(b"d/new"), file(b"d/sub/new")],
            [directory(b"d"), file(b"d/new"), file(b"d/sub/new"), file(b"d/.wh..wh..opq")],
        ):
            assert merged(lower, upper) == {"d": "dir", "d/new": "0", "d/sub": "dir", "d/sub/new": "0"}

    def test_a_whiteout_spares_what_its_own_layer_brings(self) -> None:
        lower = [file(b"a"), file(b"d/old")]
        upper = [file(b"a", b"new"), file(b".wh.a"), file(b"d/new"), file(b".wh.d")]
        assert merged(lower, upper) == {"a": "3", "d": "dir", "d/new": "0"}

    def test_a_directory_that_replaces_a_link_is_hidden_without_touching_the_links_target(self) -> None:
        lower = [file(b"target/kept"), symlink(b"d", b"target")]
        upper = [directory(b"d"), file(b"d/.wh..wh..opq"), file(b"d/new")]
        assert merged(lower, upper) == {"target": "dir", "target/kept": "0", "d": "dir", "d/new": "0"}

    def test_whiteouts_for_aufs_itself_are_ignored(self) -> None:
        assert merged([file(b"a")], [directory(b".wh..wh.plnk"), file(b".wh..wh.plnk/1.2"), file(b".wh..wh.aufs")]) == {
            "a": "0"
        }

    def test_other_types_replace_and_directories_merge(self) -> None:
        lower = [file(b"d/x"), file(b"f"), symlink(b"s", b"d"), file(b"both/low")]
        upper = [file(b"d"), directory(b"f"), directory(b"s"), file(b"both/up"), Member(b"p", tarfile.FIFOTYPE)]
        assert merged(lower, upper) == {
            "d": "0", "f": "dir", "s": "dir", "both": "dir", "both/low": "0", "both/up": "0", "p": "FIFO",
        }  # fmt: skip

    def test_a_hard_link_reaches_a_lower_layer(self) -> None:
        assert merged([file(b"a", b"1")], [hard_link(b"d/b", b"a")]) == {"a": "1", "d": "dir", "d/b": "1"}

    def test_replacing_one_name_of_a_file_leaves_the_other(self) -> None:
        assert merged([file(b"a", b"1"), hard_link(b"b", b"a")], [file(b"a", b"22")]) == {"a": "2", "b": "1"}


class TestLinksOnTheWay:
    @pytest.mark.parametrize("target", [b"real", b"/real", b"./real", b"../../real", b"x/../real", b"/../real//"])
    def test_a_name_below_a_link_lands_in_the_links_target(self, target: bytes) -> None:
        lower = [directory(b"real"), directory(b"x"), symlink(b"link", target)]
        assert merged(lower, [file(b"link/f")])["real/f"] == "0"

    def test_a_link_out_of_the_root_stays_in_it(self) -> None:
        found = merged([symlink(b"out", b"../../../etc"), file(b"out/passwd")])
        assert found == {"out": "-> ../../../etc", "etc": "dir", "etc/passwd": "0"}

    def test_a_whiteout_through_a_link_removes_in_the_target(self) -> None:
        lower = [file(b"real/f"), file(b"real/g"), symlink(b"link", b"/real")]
        assert merged(lower, [file(b"link/.wh.f")]) == {"real": "dir", "real/g": "0", "link": "-> /real"}

    def test_a_hard_link_through_a_link_finds_its_target(self) -> None:
        assert merged([file(b"real/f", b"1"), symlink(b"l", b"real"), hard_link(b"h", b"l/f")])["h"] == "1"

    @pytest.mark.parametrize("members", [
        [symlink(b"a", b"a"), file(b"a/f")],
        [symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/f")],
        [symlink(b"a", b"a/" * 2000), file(b"a/f")],
    ])  # fmt: skip
    def test_a_loop_of_links_is_refused(self, members: list[Member]) -> None:
        with pytest.raises(LayerRejected, match=r"a loop|too long"):
            merged(members)

    def test_links_that_stand_for_ever_longer_paths_are_refused(self) -> None:
        """Each doubles the length of the one before: a short archive, an endless path."""
        doubling = [symlink(b"l0", b"."), *(symlink(b"l%d" % n, b"l%d/" % (n - 1) * 2) for n in range(1, 40))]
        with pytest.raises(LayerRejected):
            merged([*doubling, file(b"l39/f")])


class TestHostileLayers:
    @pytest.mark.parametrize(
        ("member", "reason"),
        [
            (file(b"../evil"), "climbs"),
            (file(b"a/../../evil"), "climbs"),
            (file(b"/../evil"), "climbs"),
            (directory(b".."), "climbs"),
            (symlink(b"../evil", b"x"), "climbs"),
            (file(b"../.wh.evil"), "climbs"),
            (hard_link(b"a", b"../../etc/shadow"), "climbs"),
            (hard_link(b"a", b"/etc/shadow"), "does not exist"),
            (hard_link(b"a", b"/../known/file"), "climbs"),
            (hard_link(b"a", b"missing"), "does not exist"),
            (hard_link(b"a", b"known/missing"), "does not exist"),
            (hard_link(b"a", b"known/.wh.file"), "does not exist"),
            (hard_link(b"a", b""), "does not exist"),
            (hard_link(b"known/file", b"known/file"), "does not exist"),
            (hard_link(b"known", b"known/file"), "does not exist"),
            (hard_link(b"a", b"known"), "is a directory"),
            (hard_link(b"a", b"."), "does not exist"),
            (file(b"known/.wh."), "whiteout of nothing"),
            (file(b"known/.wh.."), "whiteout of nothing"),
            (file(b"known/.wh..."), "whiteout of nothing"),
            (file(b"known/.wh.file/below"), "for whiteouts"),
            (file(b"known/file/below"), "not a directory"),
            (file(b"."), "must be a directory"),
            (symlink(b"/", b"/etc"), "must be a directory"),
            (file(b"n" * 256), "256 bytes"),
            (file(b"d/" * 2048 + b"f"), "4097 bytes"),
            (file(b"d/" * 300 + b"f"), "256 directories deep"),
            (symlink(b"s", b""), "target"),
            (symlink(b"s", b"t" * 4096), "target"),
            (Member(b"dev", tarfile.CHRTYPE, device=(2**12, 0)), "no device"),
            (Member(b"dev", tarfile.BLKTYPE, device=(0, 2**20)), "no device"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_or_tries_to_escape_is_refused_by_name(self, member: Member, reason: str) -> None:
        with pytest.raises(LayerRejected, match=reason) as caught:
            merged([file(b"known/file")], [member])
        assert "entry b" in str(caught.value)

    def test_too_many_entries_are_refused(self) -> None:
        limits = Limits(entries=10)
        assert len(merged([file(b"%d" % n) for n in range(10)], limits=limits)) == 10
        with pytest.raises(LayerRejected, match="more than 10 entries"):
            merged([file(b"%d" % n) for n in range(6)], [file(b"%d" % n) for n in range(6)], limits=limits)

    def test_entries_that_take_much_memory_count_as_many(self) -> None:
        """Else a million of them, which compress to nothing, would fill that of the host."""
        for big in (
            file(b"a", xattrs={"user.a": b"x" * 4000}),
            file(b"b", xattrs={f"user.{number}": b"" for number in range(40)}),
            symlink(b"c", b"t" * 4000),
            file(b"/".join([b"n" * 250] * 15)),
        ):
            assert len(merged([big], limits=Limits(entries=25))) >= 1
            with pytest.raises(LayerRejected, match="more than 20 entries"):
                merged([big] * 10, limits=Limits(entries=20))

    def test_implied_directories_count(self) -> None:
        with pytest.raises(LayerRejected, match="more than 10 entries"):
            merged([file(b"a/b/c/d/e/f/g/h/i/j/k")], limits=Limits(entries=10))

    def test_depth_counts_after_links_are_followed(self) -> None:
        members = [file(b"d/" * 20 + b"f"), symlink(b"l", b"d/" * 20), file(b"l/" + b"e/" * 20 + b"f")]
        with pytest.raises(LayerRejected, match="30 directories deep"):
            merged(members, limits=Limits(depth=30))
