"""Commands that nobody needs to wait for, and finding them again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from boxlite.boxes.command import Command, TtySize
from boxlite.boxes.execution import Execution
from boxlite.boxes.outcome import Outcome
from boxlite.boxes.reconnect import on_any_connection
from boxlite.boxes.wire import outcome_of
from boxlite.errors import ExecutionNotFound
from proto.boxlite import v1

if TYPE_CHECKING:
    from boxlite.boxes.machine import Machine

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What `ExecStart` allows; a guest that lists something else is not to steer a terminal with it."""


@attrs.frozen
class ExecutionInfo:
    """A command that the guest knows: it runs, or is one of the last 64 that ended.

    `argv` may be cut off after 4 KiB. `pid` is in the container; None for a command that was not found. `attached` says
    whether somebody has it. Of each output the guest keeps the bytes from `..._start` to `..._end`. `outcome` and
    `duration`, in seconds, are None while it runs.
    """

    id: str
    argv: tuple[bytes, ...]
    pid: int | None
    tty: bool
    stdin: bool
    attached: bool
    stdout_start: int
    stdout_end: int
    stderr_start: int
    stderr_end: int
    outcome: Outcome | None
    duration: float | None


async def list_executions(machine: Machine) -> tuple[ExecutionInfo, ...]:
    """All that the guest still knows, the oldest first. Raises `BoxDied` or `GuestRefused`."""
    known = await on_any_connection(machine, lambda session: session.executions())
    return tuple(_info(each) for each in known if _ID.fullmatch(each.execution_id))


async def spawn(machine: Machine, command: Command, *, stdin: bool, stop_group_on_exit: bool) -> str:
    """Starts a command, leaves it to itself, and gives its id. Raises what `open_execution` does.

    When cancelled before the command has started, it is killed.
    """
    execution = Execution(machine, command, stdin=stdin, stop_group_on_exit=stop_group_on_exit)
    machine.start_soon(execution._run)
    machine.counters.executions += 1
    try:
        await execution._wait_started()
    except BaseException:
        with trio.CancelScope(shield=True):
            await execution._stop(spare_group=False)
        raise
    with trio.CancelScope(shield=True):
        await execution._leave()
    return execution.id


@asynccontextmanager
async def open_attachment(
    machine: Machine, execution_id: str, *, stdout_offset: int, stderr_offset: int
) -> AsyncIterator[Execution]:
    """Gives a command that runs, or has ended, with its output from these offsets on; leaving the block leaves it be.

    Raises `ExecutionNotFound`, or `GuestRefused` for an offset that its output has not reached.
    """
    known = {info.id: info for info in await list_executions(machine)}
    info = known.get(execution_id)
    if info is None:
        raise ExecutionNotFound(
            machine.box,
            f"it knows no execution {execution_id!r}, or not any more: executions() lists those that it does",
        )
    execution = Execution(
        machine,
        Command(info.argv or (b"",), {}, tty=TtySize() if info.tty else None),
        stdin=info.stdin,
        attach_to=info.id,
        stdout_offset=stdout_offset,
        stderr_offset=stderr_offset,
    )
    machine.start_soon(execution._run)
    try:
        await execution._wait_started()
        yield execution
    finally:
        with trio.CancelScope(shield=True):
            await execution._leave()


def _info(info: v1.ExecutionInfo) -> ExecutionInfo:
    exited = info.exited
    return ExecutionInfo(
        id=info.execution_id,
        argv=tuple(info.argv),
        pid=info.pid or None,
        tty=info.tty,
        stdin=info.input,
        attached=info.followed,
        stdout_start=info.stdout_start,
        stdout_end=info.stdout_end,
        stderr_start=info.stderr_start,
        stderr_end=info.stderr_end,
        outcome=None if exited is None else outcome_of(exited),
        duration=None if exited is None else exited.duration_ns / 1e9,
    )
