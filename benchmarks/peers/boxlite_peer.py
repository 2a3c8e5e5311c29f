"""BoxLite (PyPI boxlite), whose package has the name of ours: it is on the path in its place here."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

import figures  # type: ignore[import-not-found, unused-ignore]
from figures import EXECUTIONS, STREAM, Clock, Stream  # type: ignore[import-not-found, unused-ignore]

peer: Any = importlib.import_module("boxlite")


async def run(box: Any, *argv: str) -> None:
    """One command to its end."""
    execution = await box.exec(argv[0], list(argv[1:]))
    async for _ in execution.stdout():
        pass
    assert (await execution.wait()).exit_code == 0


async def main(layout: str, home: str) -> None:
    """Measures."""
    runtime = peer.Boxlite(peer.Options(home_dir=home))
    options = peer.BoxOptions(rootfs_path=layout, cpus=1, memory_mib=figures.MEMORY_MIB, auto_remove=False)
    clock = Clock()
    box = await runtime.create(options)
    await box.__aenter__()
    await run(box, "echo", "ready")
    clock.emit(figures.FIRST)
    for _ in range(EXECUTIONS):
        one = Clock()
        await run(box, "true")
        one.emit(figures.EXEC)
    stream = Stream()
    execution = await box.exec(STREAM[0], STREAM[1:])
    async for piece in execution.stdout():
        stream.take(len(piece))
    await execution.wait()
    stream.emit()
    figures.emit_memory()
    stop = Clock()
    await box.stop()
    stop.emit(figures.STOP)
    clock = Clock()
    box = await runtime.create(options)
    await box.__aenter__()
    await run(box, "echo", "ready")
    clock.emit(figures.SECOND)
    await box.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
