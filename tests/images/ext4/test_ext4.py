"""The written image, as e2fsck and the kernel see it."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxlite.errors import LayerRejected
from boxlite.images.ext4 import plan_ext4, write_ext4
from boxlite.images.ext4.geometry import BLOCKS_PER_GROUP, Geometry
from boxlite.images.tree import Attributes, Directory, File, Node, Special, SpecialKind, Symlink
from tests.images.archives import file
from tests.images.disks import check, mounted, mounted_archive
from tests.privileges import require_root

PLAIN = Attributes(0o644)
UUID = bytes(range(16))


def write(root: Directory, directory: Path, content: bytes = b"", name: str = "tree.ext4") -> Path:
    """Writes the tree's disk; files find their content in `content`."""
    spool, disk = directory / "spool", directory / name
    spool.write_bytes(content)
    plan = plan_ext4(root)
    with spool.open("rb") as source, disk.open("wb") as target:
        write_ext4(plan, source.fileno(), target.fileno(), uuid=UUID)
    return disk


def tree(**entries: Node) -> Directory:
    return Directory(Attributes(0o755), {name.encode(): node for name, node in entries.items()})


def test_an_empty_tree_is_an_empty_file_system(tmp_path: Path) -> None:
    found = mounted(write(Directory(Attributes(0o1777, 3, 4, 5 * 10**9)), tmp_path))
    assert list(found) == [b""]
    root = found[b""]
    assert (stat.S_IMODE(root.mode), root.uid, root.gid, root.mtime_ns) == (0o1777, 3, 4, 5 * 10**9)


def test_every_kind_of_node_comes_back(tmp_path: Path) -> None:
    root = tree(
        file=File(PLAIN, 2, 5),
        pipe=Special(Attributes(0o600), SpecialKind.FIFO),
        null=Special(Attributes(0o666), SpecialKind.CHARACTER, 1, 3),
        disk=Special(Attributes(0o660), SpecialKind.BLOCK, 259, 70_000),
        link=Symlink(PLAIN, b"/etc/passwd"),
        directory=tree(below=File(Attributes(0o4755), 0, 1)),
    )
    found = mounted(write(root, tmp_path, b"0123456789"))
    assert found[b"file"].content == b"23456"
    assert found[b"directory/below"].content == b"0"
    assert stat.S_IMODE(found[b"directory/below"].mode) == 0o4755
    assert stat.S_ISFIFO(found[b"pipe"].mode)
    assert stat.S_ISCHR(found[b"null"].mode)
    assert found[b"null"].device == (1, 3)
    assert stat.S_ISBLK(found[b"disk"].mode)
    assert found[b"disk"].device == (259, 70_000)
    assert found[b"link"].content == b"/etc/passwd"
    assert found[b""].links == 3


def test_equal_trees_give_equal_bytes_in_whatever_order_they_grew(tmp_path: Path) -> None:
    nodes: dict[str, Node] = {"a": File(PLAIN, 0, 3), "b": tree(c=Symlink(PLAIN, b"x" * 99)), "d": File(PLAIN, 3, 2)}
    one = write(tree(**nodes), tmp_path, b"12345", "one")
    other = write(tree(**dict(reversed(nodes.items()))), tmp_path, b"12345", "other")
    assert one.read_bytes() == other.read_bytes()


def test_hard_links_are_one_inode(tmp_path: Path) -> None:
    shared = File(PLAIN, 0, 3)
    found = mounted(write(tree(one=shared, two=tree(three=shared)), tmp_path, b"abc"))
    assert found[b"one"].names == {b"one", b"two/three"}
    assert found[b"one"].links == 2


@pytest.mark.parametrize("length", [1, 59, 60, 61, 4095])
def test_symbolic_links_of_all_lengths_keep_their_targets(tmp_path: Path, length: int) -> None:
    found = mounted(write(tree(link=Symlink(PLAIN, b"x" * length)), tmp_path))
    assert found[b"link"].content == b"x" * length


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 2**20 + 1])
def test_files_of_all_sizes_keep_their_content(tmp_path: Path, size: int) -> None:
    content = bytes(range(1, 252)) * (size // 251 + 1)
    found = mounted(write(tree(file=File(PLAIN, 0, size)), tmp_path, content))
    assert found[b"file"].content == content[:size]


def test_zeros_become_holes_and_read_as_zeros(tmp_path: Path) -> None:
    content = b"start" + bytes(8 * 2**20) + b"end"
    disk = write(tree(file=File(PLAIN, 0, len(content))), tmp_path, content)
    assert disk.stat().st_blocks * 512 < 4 * 2**20
    assert mounted(disk)[b"file"].content == content


def test_a_file_of_more_than_four_extents_has_a_tree_of_them(tmp_path: Path) -> None:
    """One extent covers 128 MiB. The content is one hole with a mark in each extent."""
    size, step = 513 * 2**20 + 5, 128 * 2**20
    spool, disk = tmp_path / "spool", tmp_path / "disk"
    with spool.open("wb") as sparse:
        sparse.truncate(size)
        for at in [*range(0, size, step), size - 5]:
            sparse.seek(at)
            sparse.write(b"%05d" % (at // step))
    with spool.open("rb") as source, disk.open("wb") as target:
        write_ext4(plan_ext4(tree(big=File(PLAIN, 0, size))), source.fileno(), target.fileno(), uuid=UUID)
    check(disk)
    require_root("loop mounts")
    (tmp_path / "mount").mkdir()
    script = 'mount -t ext4 -o loop,ro "$1" "$2" && cmp "$2/big" "$3"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(disk), str(tmp_path / "mount"), str(spool)]
    subprocess.run(command, check=True, capture_output=True)


def test_a_directory_of_many_blocks_lists_every_name(tmp_path: Path) -> None:
    names = {f"{number:05}" + "x" * (number % 240): File(PLAIN, 0, 0) for number in range(3000)}
    assert len(mounted(write(tree(**names), tmp_path))) == 3001


def test_many_files_take_more_than_one_group_of_inodes(tmp_path: Path) -> None:
    root = tree(**{f"d{number}": tree(**{f"f{n}": File(PLAIN, 0, 0) for n in range(500)}) for number in range(80)})
    disk = write(root, tmp_path)
    check(disk)
    assert disk.stat().st_size > BLOCKS_PER_GROUP * 4096


@pytest.mark.parametrize(("directories", "links"), [(64_998, 65_000), (64_999, 1)])
def test_a_directory_of_more_directories_than_links_can_count_has_one(directories: int, links: int) -> None:
    """The feature dir_nlink: 1 stands for many."""
    plan = plan_ext4(tree(**{str(number): tree() for number in range(directories)}))
    assert plan.inodes[0].links == links


def test_more_hard_links_than_ext4_counts_are_refused() -> None:
    shared = File(PLAIN, 0, 0)
    with pytest.raises(LayerRejected, match="65000 hard links"):
        plan_ext4(tree(**{str(number): shared for number in range(65_001)}))


def test_a_file_larger_than_its_extents_can_name_is_refused() -> None:
    with pytest.raises(LayerRejected, match="bytes"):
        plan_ext4(tree(huge=File(PLAIN, 0, 2**38)))


@pytest.mark.parametrize(
    "xattrs",
    [
        {"user.small": b"1"},
        {"security.capability": bytes.fromhex("0100000200200000000000000000000000000000")},
        {"user.large": b"v" * 3900},
        {"user.b": b"2" * 50, "trusted.a": b"1" * 50, "user.aa": b"", "user.c": b"odd"},
    ],
)
def test_extended_attributes_come_back(tmp_path: Path, xattrs: dict[str, bytes]) -> None:
    found = mounted_archive(tmp_path, file(b"file", b"content", xattrs=xattrs))
    assert dict(found[b"file"].xattrs) == xattrs
    assert found[b"file"].content == b"content"


@pytest.mark.parametrize("name", [b"user.", b"user." + b"n" * 251, b"user.a\0b"])
def test_an_extended_attribute_without_a_valid_name_is_refused(name: bytes) -> None:
    with pytest.raises(LayerRejected, match="no valid name"):
        plan_ext4(tree(file=File(Attributes(0o644, xattrs=((name, b""),)), 0, 0)))


def test_more_extended_attributes_than_a_block_are_refused_by_the_name_of_the_file() -> None:
    with pytest.raises(LayerRejected, match="/file'"):
        plan_ext4(tree(file=File(Attributes(0o644, xattrs=((b"user.a", bytes(5000)),)), 0, 0)))


@pytest.mark.parametrize("mtime", [-(2**31), -1, 0, 2**31 - 1, 2**31, 2**32, 2**33 + 5])
def test_times_before_1970_and_after_2038_come_back(tmp_path: Path, mtime: int) -> None:
    nanoseconds = mtime * 10**9 + 123_456_789
    found = mounted(write(tree(file=File(Attributes(0o644, mtime_ns=nanoseconds), 0, 0)), tmp_path))
    assert found[b"file"].mtime_ns == nanoseconds


@pytest.mark.parametrize("mtime_ns", [-(10**30), 10**30])
def test_times_that_ext4_cannot_tell_become_the_nearest(tmp_path: Path, mtime_ns: int) -> None:
    found = mounted(write(tree(file=File(Attributes(0o644, mtime_ns=mtime_ns), 0, 0)), tmp_path))
    nearest = -(2**31) if mtime_ns < 0 else 2**34 - 2**31 - 1
    assert found[b"file"].mtime_ns // 10**9 == nearest


def test_large_user_ids_come_back(tmp_path: Path) -> None:
    found = mounted(write(tree(file=File(Attributes(0o644, 2**32 - 2, 70_000), 0, 0)), tmp_path))
    assert (found[b"file"].uid, found[b"file"].gid) == (2**32 - 2, 70_000)


@given(inodes=st.integers(11, 10**7), content_blocks=st.integers(0, 10**8))
def test_the_geometry_has_room_for_all(inodes: int, content_blocks: int) -> None:
    """No part overlaps the next, bitmaps cover their groups, and the last group is not empty."""
    geometry = Geometry.of(inodes=inodes, content_blocks=content_blocks)
    assert geometry.inodes >= inodes
    assert geometry.inodes_per_group <= 8 * 4096
    assert geometry.used_blocks - geometry.content == content_blocks
    assert (geometry.groups - 1) * BLOCKS_PER_GROUP < geometry.blocks <= geometry.groups * BLOCKS_PER_GROUP
    assert 1 + geometry.groups * 32 / 4096 <= geometry.block_bitmaps
    assert geometry.inode_bitmaps - geometry.block_bitmaps == geometry.groups
    assert geometry.inode_tables - geometry.inode_bitmaps == geometry.groups
    assert geometry.content - geometry.inode_tables == geometry.groups * geometry.table_blocks


names = st.binary(min_size=1, max_size=255).filter(
    # In a layer, the name of a whiteout means something else.
    lambda name: not set(name) & set(b"\0/") and name.strip(b".") != b"" and not name.startswith(b".wh.")
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.dictionaries(names, st.binary(max_size=10_000), max_size=30))
def test_any_names_and_contents_come_back(tmp_path: Path, contents: dict[bytes, bytes]) -> None:
    found = mounted_archive(tmp_path, *(file(b"./" + name, content) for name, content in contents.items()))
    visible = {path: entry.content for path, entry in found.items() if path}
    expected = {name: content for name, content in contents.items() if not name.startswith(b".wh.")}
    assert visible == expected


def test_debugfs_reads_what_the_kernel_reads(tmp_path: Path) -> None:
    """A second reader of the format, independent of the kernel's."""
    disk = write(tree(a=tree(b=File(PLAIN, 0, 6))), tmp_path, b"hello\n")
    read = subprocess.run(["debugfs", "-R", "cat /a/b", str(disk)], capture_output=True, check=True)
    assert read.stdout == b"hello\n"
