"""Homes with boxes in their store, and no runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
from click.testing import CliRunner

from boxlite import BoxOptions, BoxState
from boxlite.cli.commands import cli
from boxlite.images.reference import parse_reference
from boxlite.store.records import StoredBox
from boxlite.store.sqlite import DATABASE, SqliteStore
from boxlite.vmm.engine import ProcessIdentity, VmRecord

GONE = ProcessIdentity(os.getpid(), 1, "the host's boot before this one")


def this_process() -> ProcessIdentity:
    """Stands for a virtual machine that runs."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ProcessIdentity(os.getpid(), int(stat[19]), boot_id)


def box(name: str, state: BoxState, process: ProcessIdentity | None = None, **fields: Any) -> StoredBox:
    """A detached box, whose id is its name."""
    vm = None if process is None else VmRecord(process, process, "/tmp/none")
    options = BoxOptions(image=parse_reference("builtin/python"), name=name, detached=True)
    made = StoredBox(id=name, options=options, created_at=100.0, changed_at=200.0, state=state, vm=vm)
    return attrs.evolve(made, **fields)


def fill(home: Path, *boxes: StoredBox) -> None:
    """Puts boxes into the store of a home."""
    store = SqliteStore(home / DATABASE)
    for each in boxes:
        store.add(each)
        store.save(each)
    store.close()


@attrs.frozen
class Called:
    """What a command said, and its status; an error that it raised is in `error`."""

    status: object
    stdout: str
    stderr: str
    error: BaseException | None


def call(*arguments: str, **env: str) -> Called:
    """Calls the command line in this process."""
    result = CliRunner().invoke(cli, arguments, standalone_mode=False, env=env)
    return Called(result.return_value, result.stdout, result.stderr, result.exception)
