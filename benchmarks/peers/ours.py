"""This package."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import trio

import boxlite
from benchmarks.peers import figures
from benchmarks.peers.figures import EXECUTIONS, STREAM, Clock, Stream
from boxlite.runtime.layout import Home, find_home


async def main(*arguments: str) -> None:
    """Measures with the best engine of where it runs. Boxes are restored; with the start "boot", they boot."""
    layout, home, start = arguments
    # The guest's root and the kernel are made once a host: others bring theirs with them, made.
    there, here = find_home(None), Home(Path(home))
    shutil.copytree(there.builtin, here.builtin)
    shutil.copytree(there.kernels, here.kernels)
    templates_mib = 0 if start == "boot" else 4096
    async with boxlite.open_runtime(home=home, templates_mib=templates_mib) as runtime:
        clock = Clock()
        async with runtime.open_box(f"oci:{layout}", memory_mib=figures.MEMORY_MIB) as box:
            await box.run(["echo", "ready"])
            clock.emit(figures.FIRST)
            for _ in range(EXECUTIONS):
                one = Clock()
                await box.run(["true"])
                one.emit(figures.EXEC)
            stream = Stream()
            async with box.exec(STREAM) as execution:
                while piece := await execution.stdout.receive_some():
                    stream.take(len(piece))
            stream.emit()
            figures.emit_memory()
            stop = Clock()
            await box.stop()
            stop.emit(figures.STOP)
        clock = Clock()
        async with runtime.open_box(f"oci:{layout}", memory_mib=figures.MEMORY_MIB) as box:
            await box.run(["echo", "ready"])
            clock.emit(figures.SECOND)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
