"""The measurements of disks, on a small image and a real machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio

from benchmarks.bare.machine import BareParts
from benchmarks.images.guest import STEPS, make_script_disk, read_disk
from benchmarks.images.kinds import KINDS, Source, unpack
from boxlite.runtime.layout import find_home
from boxlite.runtime.parts import Parts
from tests.images.archives import archive, directory, file
from tests.images.layouts import write_layout
from tests.privileges import require_root

PATIENCE = 120.0


async def test_our_disk_is_read_in_a_guest_and_umoci_unpacks_the_same_image(home: Path) -> None:
    require_root("umoci's owners of files")
    layers = [archive(directory(b"./"), file(b"a", b"x" * 5000)), archive(file(b"b", b"y"), file(b".wh.a"))]
    with tempfile.TemporaryDirectory(prefix="boxlite-bench-") as name, trio.fail_after(PATIENCE):
        work = Path(name)
        source = Source(write_layout(work / "layout", layers, compression="+gzip"), work / "bundle/rootfs")
        unpack(source.layout, work / "bundle")
        assert [path.name for path in source.tree.iterdir()] == ["b"]
        kind = KINDS["ext4"]
        kind.make(source, work / "disk")
        found = find_home(None)
        found.make()
        parts = Parts(found, engine=None, kernel=None)
        bare = BareParts(await parts.engine(), await parts.kernel(), (make_script_disk(work / "script.ext4"),))
        taken = await read_disk(bare, work, work / "disk", kind.file_system)
    assert tuple(taken) == STEPS
    assert all(seconds > 0 for seconds in taken.values())
