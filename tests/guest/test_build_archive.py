"""A tree's archive holds the tree and nothing of the host, in one order."""

import hashlib
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from guest.build.archive import write_tar
from guest.build.tree import MTIME, Directory, File, Node, Symlink, Tree

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=120).filter(
    lambda name: name not in (".", "..")
)
files = st.builds(File, st.binary(max_size=1500), st.sampled_from([0o644, 0o755]))
nodes = files | st.builds(Directory, st.sampled_from([0o755, 0o700, 0o1777])) | st.builds(Symlink, names)
# Leaves have names of their own, so that no file is the parent of another entry.
paths = st.tuples(st.lists(names.map(lambda name: f"d{name}"), max_size=3), names.map(lambda name: f"f{name}"))
trees = st.dictionaries(paths.map(lambda path: "/".join([*path[0], path[1]])), nodes, max_size=8)


def archive(tree: Tree) -> tuple[bytes, list[tarfile.TarInfo], Tree]:
    """The tar's bytes, its headers, and the tree that an independent reader finds in it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "tar")
        written = write_tar(tree, path)
        data = path.read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (written.sha256, written.size)
        with tarfile.open(path) as reader:
            headers = reader.getmembers()
            found = {header.name: node_of(reader, header) for header in headers}
    return data, headers, found


def node_of(reader: tarfile.TarFile, header: tarfile.TarInfo) -> Node:
    if header.isdir():
        return Directory(header.mode)
    if header.issym():
        return Symlink(header.linkname)
    content = reader.extractfile(header)
    assert content is not None
    return File(content.read(), header.mode)


# Each example waits for the disk, which takes as long as it takes.
@settings(deadline=None, max_examples=50)
@given(trees)
def test_an_archive_holds_its_tree(tree: Tree) -> None:
    """Every entry comes back as it was, and the only others are the directories that hold them."""
    _, _, found = archive(tree)
    assert {path: found[path] for path in tree} == tree
    assert all(found[path] == Directory() for path in found.keys() - tree.keys())


@settings(deadline=None, max_examples=50)
@given(trees.flatmap(lambda tree: st.tuples(st.just(tree), st.permutations(list(tree.items())))))
def test_the_order_of_a_tree_does_not_show(tree: tuple[Tree, list[tuple[str, Node]]]) -> None:
    """Two trees that are equal give the same bytes."""
    assert archive(dict(tree[1]))[0] == archive(tree[0])[0]


@settings(deadline=None, max_examples=50)
@given(trees)
def test_parents_come_first_and_nobody_is_named(tree: Tree) -> None:
    """A reader can make the entries in order; all belong to root and carry the one time."""
    _, headers, _ = archive(tree)
    seen = {""}
    for header in headers:
        assert header.name.rpartition("/")[0] in seen
        seen.add(header.name)
        assert (header.uid, header.gid, header.uname, header.gname, header.mtime) == (0, 0, "", "", MTIME)
