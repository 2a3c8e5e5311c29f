"""What is gathered of the host arrives at its own place, with its links, times and empty directories."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from lab.hosttree import HostTree


def members(tree: HostTree, tmp_path: Path) -> dict[str, tarfile.TarInfo]:
    output = tmp_path / "output.tar"
    tree.write_tar(output)
    with tarfile.open(output) as tar:
        return {f"/{member.name}": member for member in tar.getmembers()}


def test_every_link_on_the_way_to_a_file_comes_along(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("content")
    (tmp_path / "real" / "alias").symlink_to("../real/file")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    tree = HostTree()
    tree.add(tmp_path / "link" / "alias")
    found = members(tree, tmp_path)
    assert found[f"{tmp_path}/link"].linkname == f"{tmp_path}/real"
    assert found[f"{tmp_path}/real/alias"].linkname == "../real/file"
    assert found[f"{tmp_path}/real/file"].isreg()
    assert len(found) == 3


def test_times_are_exact(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.utime(file, ns=(0, 1_700_000_000_123_456_789))
    tree = HostTree()
    tree.add(file)
    assert members(tree, tmp_path)[str(file)].pax_headers["mtime"] == "1700000000.123456789"


def test_what_is_skipped_leaves_its_directory_and_no_file(tmp_path: Path) -> None:
    for name in ("kept/file", "left/file", "kept/left"):
        path = tmp_path / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    tree = HostTree()
    tree.add_below(tmp_path / "from", lambda path: path.name == "left")
    below = {name.removeprefix(f"{tmp_path}/from") for name in members(tree, tmp_path)}
    assert below == {"", "/kept", "/kept/file", "/left"}


def test_what_is_made_stands_beside_what_the_host_has(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("the host's")
    tree = HostTree()
    tree.add(tmp_path / "file")
    tree.make(str(tmp_path / "file"), b"made")
    tree.make("/init", b"script", 0o755)
    tree.make_directory("/proc")
    tree.make_link("/bin/sh", "/bin/busybox")
    found = members(tree, tmp_path)
    assert (found["/init"].mode, found["/init"].size) == (0o755, 6)
    assert found["/proc"].isdir()
    assert found["/bin/sh"].linkname == "/bin/busybox"
    assert found[str(tmp_path / "file")].size == len("the host's")


def test_the_key_tells_of_every_change_and_of_no_other(tmp_path: Path) -> None:
    def key() -> str:
        tree = HostTree()
        tree.add_below(tmp_path)
        tree.make("/init", (b"a" if init else b"b"))
        return tree.key()

    init = True
    file = tmp_path / "file"
    file.write_text("1")
    keys = [key()]
    assert key() == keys[0]
    os.utime(file, ns=(0, 1))
    keys.append(key())
    (tmp_path / "other").symlink_to("file")
    keys.append(key())
    init = False
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_what_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HostTree().add(tmp_path / "missing")
