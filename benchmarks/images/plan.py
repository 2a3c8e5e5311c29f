"""What is measured of images: building their disks, the size of these, and reading them in a guest."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import trio

from benchmarks.bare.machine import BareParts
from benchmarks.images.guest import STEPS, make_script_disk, read_disk
from benchmarks.images.kinds import KINDS, Source, unpack
from benchmarks.rows import Row
from benchmarks.samples import median
from boxlite.images.builtin import ensure_builtin
from boxlite.runtime.layout import find_home
from boxlite.runtime.parts import Parts
from tests.images.distributions import alpine, debian, pack
from tests.images.layouts import write_layout
from vmm_ffi.spec import VmmKind

MIB: Final = 1024 * 1024

_BUILD: Final = "from layers to a disk that is synced; the limit is umoci unpack, and sync"
_SIZE: Final = "the disk, as it lies; the limit is the image, as it travels"
_OTHER_BUILD: Final = "mkfs.erofs, of files that umoci has unpacked; the limit is our disk, of the layers"
_OTHER_SIZE: Final = "the disk, as it lies; the limit is our disk"
_OTHER_READ: Final = "a bare guest does it for the first time; the limit is our disk"

_OURS, *_OTHERS = KINDS


async def measure(rounds: int, say: Callable[[str], None] = lambda text: None) -> list[Row]:
    """All rows. An image that cannot be had here loses its own, and no others."""
    home = find_home(None)
    home.make()
    parts = Parts(home, engine=VmmKind.QEMU, kernel=None)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="boxlite-bench-") as directory:
        work = Path(directory)
        bare = BareParts(await parts.engine(), await parts.kernel(), (make_script_disk(work / "script.ext4"),))
        layouts: dict[str, Callable[[], Path]] = {
            "alpine": lambda: write_layout(work / "alpine", [alpine(work / "a.tar").read_bytes()], compression="+gzip"),
            "debian": lambda: write_layout(work / "debian", [_debian(work).read_bytes()], compression="+gzip"),
        }
        python = await ensure_builtin("python", home.builtin)
        layouts["python"] = lambda: python
        for name, make_layout in layouts.items():
            say(name)
            try:
                layout = await trio.to_thread.run_sync(make_layout)
                rows += await _measure_image(name, layout, bare, work, rounds)
            except (OSError, RuntimeError) as error:
                rows.append(Row.missing(f"disk_build_{name}", str(error)))
    return rows


def _debian(work: Path) -> Path:
    debian(work / "debian.root")
    return pack(work / "debian.root", work / "debian.tar")


async def _measure_image(name: str, layout: Path, bare: BareParts, work: Path, rounds: int) -> list[Row]:
    build: dict[str, list[float]] = {kind: [] for kind in KINDS}
    unpacking: list[float] = []
    steps: dict[tuple[str, str], list[float]] = {(kind, step): [] for kind in KINDS for step in STEPS}
    disks = {kind: work / f"{name}.{kind}" for kind in KINDS}
    tree = work / f"{name}.bundle"
    source = Source(layout, tree / "rootfs")
    for _ in range(rounds):
        shutil.rmtree(tree, ignore_errors=True)
        unpacking.append(await trio.to_thread.run_sync(_timed, lambda: unpack(layout, tree)))
        for kind, way in KINDS.items():
            disks[kind].unlink(missing_ok=True)
            build[kind].append(await trio.to_thread.run_sync(_timed, lambda w=way, d=disks[kind]: w.make(source, d)))
            for step, seconds in (await read_disk(bare, work, disks[kind], way.file_system)).items():
                steps[kind, step].append(seconds)
    return [*_rows(name, layout, disks, build, unpacking, steps)]


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _rows(
    name: str,
    layout: Path,
    disks: dict[str, Path],
    build: dict[str, list[float]],
    unpacking: list[float],
    steps: dict[tuple[str, str], list[float]],
) -> Iterator[Row]:
    rounds = len(unpacking)
    sizes = {kind: disk.stat().st_blocks * 512 / MIB for kind, disk in disks.items()}
    image = sum(blob.stat().st_size for blob in (layout / "blobs/sha256").iterdir()) / MIB
    yield Row(f"disk_build_{name}", median(build[_OURS]), "s", median(unpacking), rounds, _BUILD)
    yield Row(f"disk_size_{name}", sizes[_OURS], "MiB", image, 1, _SIZE)
    for kind in _OTHERS:
        yield Row(f"{kind}_build_{name}", median(build[kind]), "s", median(build[_OURS]), rounds, _OTHER_BUILD)
        yield Row(f"{kind}_size_{name}", sizes[kind], "MiB", sizes[_OURS], 1, _OTHER_SIZE)
        for step in STEPS:
            value, limit = median(steps[kind, step]) * 1000, median(steps[_OURS, step]) * 1000
            yield Row(f"{kind}_{step}_{name}", value, "ms", limit, rounds, _OTHER_READ)
