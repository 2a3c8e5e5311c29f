"""The same work by this package, bare libkrun and others' packages, in one outer machine after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import attrs
import trio

from benchmarks.peers import alpine
from benchmarks.samples import median
from boxlite.images.workspace import open_workspace
from lab.contents import CHECKOUT
from lab.errors import LabLost, LabUnavailable
from lab.machine import OuterMachine, open_machine
from lab.preparation import environment, prepare

PEERS: Final = {"boxlite": "boxlite==0.10.8", "microsandbox": "microsandbox==0.7.11"}
"""Packages that are installed beside the environment, each in a folder of its own; they are in no extra."""

NAMES: Final = ("ours", "ours-booted", "libkrun", *PEERS, "smolmachines")

_PROGRAMS: Final = CHECKOUT / "benchmarks" / "peers"


@attrs.frozen
class Contestant:
    """A program that measures."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = attrs.field(factory=dict)


def contestants(cache: Path) -> dict[str, Contestant]:
    """All that there are, by name."""
    layout, home = os.fspath(_image(cache)), "/tmp/home"
    found = [
        Contestant("ours", ("python", "-m", "benchmarks.peers.ours", layout, home, "restore")),
        Contestant("ours-booted", ("python", "-m", "benchmarks.peers.ours", layout, home, "boot")),
        Contestant("libkrun", ("python", "-m", "benchmarks.peers.bare_libkrun", layout, home)),
        *(_peer(cache, name, layout, home) for name in PEERS),
        Contestant("smolmachines", ("python", "-P", f"{_PROGRAMS}/smolmachines_peer.py", layout, home), _beside()),
    ]
    return {contestant.name: contestant for contestant in found}


def _peer(cache: Path, name: str, layout: str, home: str) -> Contestant:
    # One of them takes the image as one file.
    image = f"{layout}.tar" if name == "microsandbox" else layout
    return Contestant(
        name, ("python", "-P", f"{_PROGRAMS}/{name}_peer.py", image, home), _beside(os.fspath(_installed(cache, name)))
    )


def _beside(*directories: str) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([*directories, os.fspath(_PROGRAMS), os.fspath(CHECKOUT)])}


def _image(cache: Path) -> Path:
    return cache / "more" / "alpine"


def _installed(cache: Path, name: str) -> Path:
    return cache / "more" / name


async def bench(cache: Path, names: Iterable[str], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Figures by contestant and name; each contestant runs in an outer machine of its own, in turn.

    Every second round has the order turned round. Raises `LabUnavailable`, and whatever `prepare` raises.
    """
    chosen = [contestants(cache)[name] for name in names]
    (cache / "more").mkdir(parents=True, exist_ok=True)
    if not _image(cache).exists():
        with open_workspace(cache) as workspace:
            await trio.to_thread.run_sync(alpine.make_layout, workspace.path / "alpine")
            await trio.to_thread.run_sync(alpine.make_archive, workspace.path / "alpine", workspace.path / "alpine.tar")
            (workspace.path / "alpine.tar").rename(_image(cache).with_suffix(".tar"))
            (workspace.path / "alpine").rename(_image(cache))
    for contestant in chosen:
        if contestant.name in PEERS and not _installed(cache, contestant.name).exists():
            await _install(cache, contestant.name)
    spec = await prepare(cache, [cache / "more"])
    figures: dict[str, dict[str, list[float]]] = {contestant.name: {} for contestant in chosen}
    for number in range(rounds):
        for contestant in chosen if number % 2 == 0 else reversed(chosen):
            sys.stderr.write(f"round {number + 1}: {contestant.name}\n")
            try:
                async with open_machine(spec) as machine:
                    measured = await _measure(machine, contestant, cache)
            except LabLost as error:
                sys.stderr.write(f"{contestant.name}: {error}\n")
                continue
            for name, values in measured.items():
                figures[contestant.name].setdefault(name, []).append(median(values))
    return figures


async def _measure(machine: OuterMachine, contestant: Contestant, cache: Path) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}
    unread = bytearray()

    def take(descriptor: int, data: bytes) -> None:
        if descriptor == 2:
            sys.stderr.buffer.write(data)
            sys.stderr.flush()
            return
        unread.extend(data)
        *lines, rest = bytes(unread).split(b"\n")
        unread[:] = rest
        for line in lines:
            if line.startswith(b'{"figure"'):
                said = json.loads(line)
                sys.stderr.write(f"  {said['figure']} {said['value']}\n")
                figures.setdefault(said["figure"], []).append(said["value"])

    status = await machine.run(
        contestant.argv, cwd=CHECKOUT, environment={**environment(cache), **contestant.environment}, output=take
    )
    if status != 0:
        sys.stderr.write(f"{contestant.name} ended with status {status}: what it had not measured by then is missing\n")
    return figures


async def _install(cache: Path, name: str) -> None:
    with open_workspace(cache) as workspace:
        target = workspace.path / name
        done = await trio.run_process(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", os.fspath(target), PEERS[name]],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_stderr=True,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise LabUnavailable(f"pip cannot install {PEERS[name]}: {said[-1] if said else done.returncode}")
        target.rename(_installed(cache, name))


def as_table(figures: Mapping[str, Mapping[str, list[float]]]) -> str:
    """A row a figure, a column a contestant: the median of the rounds, and their range."""
    rows = list(dict.fromkeys(name for column in figures.values() for name in column))
    cells = [["", *figures], *([row, *(_cell(column.get(row)) for column in figures.values())] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(values: list[float] | None) -> str:
    if not values:
        return "-"
    spread = f" ({min(values):.3g}-{max(values):.3g})" if len(values) > 1 else ""
    return f"{median(values):.4g}{spread}"
