"""microsandbox (PyPI)."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from typing import Any

import certifi
import figures  # type: ignore[import-not-found, unused-ignore]
from figures import EXECUTIONS, STREAM, Clock, Stream  # type: ignore[import-not-found, unused-ignore]

peer: Any = importlib.import_module("microsandbox")
PROGRAM = os.path.join(os.path.dirname(peer.__file__), "_bundled/bin/msb")


def load(archive: str) -> None:
    """The image, from a tar file of its layout."""
    subprocess.run([PROGRAM, "load", "--input", archive, "--tag", "lab/alpine:latest"], check=True, stdout=2)


async def main(archive: str, home: str) -> None:
    """Measures."""
    os.environ["MSB_HOME"] = home
    # It wants some before it looks at anything, and asks nobody here.
    os.environ["SSL_CERT_FILE"] = certifi.where()
    # Loading an image is a command of its own here, and part of the first start as it is of the others'.
    clock = Clock()
    load(archive)
    box = await create("first")
    await box.exec("echo", ["ready"])
    clock.emit(figures.FIRST)
    for _ in range(EXECUTIONS):
        one = Clock()
        await box.exec("true")
        one.emit(figures.EXEC)
    stream = Stream()
    handle = await box.exec_stream(STREAM[0], STREAM[1:])
    async for event in handle:
        if getattr(event, "event_type", "") == "stdout":
            stream.take(len(event.data))
    stream.emit()
    figures.emit_memory()
    stop = Clock()
    await box.stop()
    stop.emit(figures.STOP)
    clock = Clock()
    box = await create("second")
    await box.exec("echo", ["ready"])
    clock.emit(figures.SECOND)
    await box.stop()


async def create(name: str) -> Any:
    """A new sandbox of the loaded image, without asking any registry."""
    return await peer.Sandbox.create(
        name, image="lab/alpine:latest", memory=figures.MEMORY_MIB, cpus=1, pull_policy=peer.PullPolicy.NEVER
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
