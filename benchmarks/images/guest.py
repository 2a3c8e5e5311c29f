"""How fast a guest reads a disk: a bare machine mounts it, looks at every name, and reads every byte."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import attrs

from benchmarks.bare.engines import open_bare_machine
from benchmarks.bare.guest import FIND_PORT, make_disk
from benchmarks.bare.machine import BareParts

STEPS: Final = ("mount", "walk", "read")

SCRIPT: Final = (
    FIND_PORT
    + """
echo ready >&3
while read command file_system <&3; do
    case $command in
        mount) mount -t $file_system -o ro /dev/vdb /mnt ;;
        walk) find /mnt -xdev -type f -size +0 >/dev/null ;;
        read) tar -C /mnt -cf /dev/null . ;;
    esac
    echo done >&3
done
"""
)


async def read_disk(parts: BareParts, work: Path, disk: Path, file_system: str) -> dict[str, float]:
    """Seconds for each of `STEPS`, the first time that a machine does them; `parts` has the script's disk first."""
    taken = {}
    async with open_bare_machine(attrs.evolve(parts, disks=(*parts.disks, disk)), work) as machine:
        for step in STEPS:
            begun = time.perf_counter()
            assert await machine.ask(f"{step} {file_system}") == b"done\n"
            taken[step] = time.perf_counter() - begun
    return taken


def make_script_disk(path: Path) -> Path:
    """The root of the machine that reads."""
    return make_disk(path, SCRIPT)
