"""Runs in the lab: a few of the conformance suite's behaviours, on libkrun and a real /dev/kvm.

A program and no test, since there each module that is loaded takes its time. `make lab` runs all of them, by pytest.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import trio

from tests.testing.conformance import commands
from tests.testing.conformance.local import open_local
from tests.testing.conformance.subject import Guest, launched
from vmm_ffi.spec import ShareSpec, VmmKind

BEHAVIOURS = (
    commands.a_ping_brings_its_payload_back,
    commands.both_outputs_come_complete_and_then_the_exit,
    commands.a_command_that_does_not_exist_exits_with_127,
    commands.a_signal_ends_a_command_and_is_its_outcome,
    commands.no_more_is_sent_than_was_credited,
    commands.input_is_taken_once_whatever_is_sent_again,
)


def describe_jail(pid: int) -> str:
    """What a process sees of the devices, whether it has a filter, and how many pid namespaces and roots it is in."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    devices = ",".join(sorted(path.name for path in Path(f"/proc/{pid}/root/dev").iterdir()))
    user = "root" if "0" in status["Uid"].split() else "another user"
    return f"{devices}, {status['Seccomp_filters']} filter, {len(status['NSpid'].split())} namespaces, {user}"


def make_shares(directory: Path) -> list[ShareSpec]:
    """A directory to write to, and one to read."""
    for name in ("rw", "ro"):
        (directory / name).mkdir()
        (directory / name / "file").write_text(f"{name}\n")
    return [ShareSpec(name, str(directory / name), read_only=name == "ro") for name in ("rw", "ro")]


async def volumes_are_the_host_s(guest: Guest, directory: Path) -> None:
    """What is read and written there is read and written here, and what is read-only here is so there."""
    script = "cat /rw/file /ro/file; cp /bin/busybox /rw/copy && cmp /bin/busybox /rw/copy; touch /ro/new"
    said = await guest.run("sh", "-c", script)
    assert said.stdout == b"rw\nro\n"
    assert b"/ro/new: Read-only file system" in said.stderr
    assert (directory / "rw/copy").stat().st_size > 1 << 20
    assert [path.name for path in (directory / "ro").iterdir()] == ["file"]


async def main() -> None:
    """Says the name of each that has held, after the engine that it held on."""
    home = Path(os.environ["BOXLITE_HOME"])
    with tempfile.TemporaryDirectory() as sockets, tempfile.TemporaryDirectory() as directory:
        async with (
            open_local(VmmKind.KRUN, home, Path(directory), Path(sockets)) as subject,
            launched(subject, shares=make_shares(Path(directory))) as guest,
        ):
            sys.stdout.write(f"engine {guest.vm.record.kind}\n")
            sys.stdout.write(f"jail {describe_jail(guest.vm.record.process.pid)}\n")
            await volumes_are_the_host_s(guest, Path(directory))
            sys.stdout.write("volumes held\n")
            for behaviour in BEHAVIOURS:
                await behaviour(guest)
                sys.stdout.write(f"held {behaviour.__name__}\n")


if __name__ == "__main__":
    trio.run(main)
