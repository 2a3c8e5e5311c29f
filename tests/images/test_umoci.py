"""umoci, which unpacks images onto a file system, as the oracle for whole images: whatever layers say, we agree."""

from __future__ import annotations

import pickle
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from boxlite.errors import LayerRejected
from boxlite.images.disk import build_disk
from boxlite.images.layout import find_image, host_architecture
from tests.images.archives import Member, archive, directory, file, hard_link, symlink
from tests.images.disks import mounted
from tests.images.dump_tree import Found
from tests.images.layouts import write_layout

names = st.sampled_from([b"a", b"b", b"\xe9t\xc3\xa9", b"new\nline"])
paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
modes = st.sampled_from([0o644, 0o755, 0o4711, 0o1777, 0o600, 0])
targets = st.one_of(paths, paths.map(lambda path: b"/" + path), paths.map(lambda path: b"../" + path))


@st.composite
def members(draw: st.DrawFn) -> Member:
    path = draw(paths)
    parent, _, name = path.rpartition(b"/")
    prefix = parent + b"/" if parent else b""
    member: Member = draw(
        st.one_of(
            st.builds(lambda content: file(path, content), st.binary(max_size=20)),
            st.just(directory(path)),
            st.builds(lambda target: symlink(path, target), targets),
            st.builds(lambda root, target: hard_link(path, root + target), st.sampled_from([b"", b"/"]), paths),
            st.just(Member(path, b"6")),
            st.just(Member(path, b"3", device=(1, 3))),
            st.just(file(prefix + b".wh." + name)),
            st.just(file(prefix + b".wh..wh..opq")),
        )
    )
    return attrs.evolve(
        member,
        mode=draw(modes),
        uid=draw(st.sampled_from([0, 1000, 70_000])),
        gid=draw(st.sampled_from([0, 5, 70_000])),
        mtime=draw(st.integers(0, 2**31)),
    )


layers = st.lists(members(), max_size=8)


def ours(layout: Path, directory: Path) -> dict[bytes, Found]:
    disk = directory / "disk"
    build_disk(find_image(layout, None, host_architecture()).layers, disk)
    return mounted(disk)


def umocis(layout: Path, directory: Path) -> dict[bytes, Found]:
    bundle = directory / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:latest", str(bundle)], capture_output=True, check=True)
    command = [sys.executable, "-m", "tests.images.dump_tree", str(bundle / "rootfs")]
    found: dict[bytes, Found] = pickle.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def comparable(found: dict[bytes, Found]) -> dict[bytes, Found]:
    """Without what says more of the host's file system than of the image: a directory's time and its count of links."""
    return {
        path: attrs.evolve(entry, mtime_ns=0, links=0) if stat.S_ISDIR(entry.mode) else entry
        for path, entry in found.items()
    }


def compare(archives: Sequence[bytes], *, compression: str = "") -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        layout = write_layout(directory / "layout", archives, compression=compression)
        assert comparable(ours(layout, directory)) == comparable(umocis(layout, directory))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(images=st.lists(layers, min_size=1, max_size=3))
def test_any_layers_become_what_umoci_makes_of_them(images: list[list[Member]]) -> None:
    try:
        compare([archive(directory(b"./"), *members) for members in images])
    except LayerRejected as error:
        event(str(error).partition("': ")[2][:30])
        assume(False)
