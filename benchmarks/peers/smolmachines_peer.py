"""smolmachines (PyPI), with the root file system that it brings, which is the image of all here."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import figures  # type: ignore[import-not-found, unused-ignore]
from figures import EXECUTIONS, STREAM, Clock, Stream  # type: ignore[import-not-found, unused-ignore]

peer: Any = importlib.import_module("smol")


def create(name: str) -> Any:
    """A new machine, which has answered."""
    resources = peer.ResourceSpec(cpus=1, memory_mb=figures.MEMORY_MIB)
    machine = peer.Machine.create(peer.MachineConfig(name=name, resources=resources))
    machine.exec(["echo", "ready"])
    return machine


def main(layout: str, home: str) -> None:
    """Measures."""
    os.environ["HOME"] = home
    # It gives its machines users of their own, and /dev/kvm is root's in the lab.
    os.environ["SMOLVM_VM_UID_DROP"] = "off"
    os.makedirs(home, exist_ok=True)
    clock = Clock()
    machine = create("first")
    clock.emit(figures.FIRST)
    for _ in range(EXECUTIONS):
        one = Clock()
        machine.exec(["true"])
        one.emit(figures.EXEC)
    stream = Stream()
    for event in machine.exec_stream(STREAM):
        if event["kind"] == "stdout":
            stream.take(len(event["data"]))
    stream.emit()
    figures.emit_memory()
    stop = Clock()
    machine.delete()
    stop.emit(figures.STOP)
    clock = Clock()
    machine = create("second")
    clock.emit(figures.SECOND)
    machine.delete()


if __name__ == "__main__":
    main(*sys.argv[1:])
