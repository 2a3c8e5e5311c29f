"""The calls that a host makes to the agent of one box, whoever carries them: gRPC, or the model in `boxlite.testing`.

Everything above is Trio and knows neither gRPC nor asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, final

from proto.boxlite.v1 import (
    AttachStart,
    Credit,
    Disk,
    ExecEvent,
    ExecStart,
    ExecutionInfo,
    InputReply,
    PingReply,
    Volume,
)


class EventSink(Protocol):
    """What takes the events of an execution, one call each, in order."""

    def __call__(self, event: ExecEvent, /) -> None:
        """Must not block. An exception ends the execution's stream and comes out of `GuestSession.execute`."""


@final
class CreditGate:
    """A reader's credit on its way to the guest; the newest limits replace older ones."""

    def __init__(self) -> None:
        self.limits = Credit()
        self._on_raise: Callable[[], None] | None = None

    def raise_limits(self, *, stdout: int, stderr: int) -> None:
        """Both are absolute offsets; returns at once."""
        self.limits = Credit(stdout_limit=stdout, stderr_limit=stderr)
        if self._on_raise is not None:
            self._on_raise()

    def subscribe(self, on_raise: Callable[[], None] | None) -> None:
        """Calls back at every raise, in place of whoever subscribed before; None ends it. For sessions."""
        self._on_raise = on_raise


class InputStreamCall(Protocol):
    """One SendInput stream, from its first chunk to its reply."""

    async def send(self, offset: int, data: bytes) -> InputReply | None:
        """Sends a chunk and waits until the guest has taken it; a reply means that the command no longer reads."""

    async def finish(self, offset: int, *, eof: bool) -> InputReply:
        """Ends the call, and with `eof` the input; the reply says how much was taken."""

    async def abandon(self) -> None:
        """Ends the call without a reply."""


class GuestSession(Protocol):
    """One connection to a guest's agent.

    Each call raises `PortalLost` when the connection ends or what came over it made no sense, which ends it; and
    `GuestRefused` when the guest says no: `ExecutionNotFound` where it does not know the execution's id, and
    `ExecutionTaken` where somebody else attached to the execution. Cancelling a call ends it in the guest too; an
    execution goes on.
    """

    def close(self) -> None:
        """Closes the connection; calls in flight raise `PortalLost`."""

    async def wait_lost(self) -> str:
        """Returns when the connection has ended, by whatever side, with the cause as a phrase."""

    async def init_guest(self, *, unix_time_ns: int, entropy: bytes, disks: Sequence[Disk]) -> None:
        """Guest.Init: once in the machine's life, first."""

    async def init_container(
        self,
        *,
        image_disk: str,
        scratch_disk: str,
        hostname: str,
        machine_id: str,
        volumes: Sequence[Volume] = (),
    ) -> None:
        """Container.Init: once in the machine's life, after `init_guest`."""

    async def freeze(self) -> None:
        """Guest.Freeze: once, after `init_container`; the machine is about to be saved as a template."""

    async def restore(
        self, *, unix_time_ns: int, entropy: bytes, hostname: str, machine_id: str, mac_address: bytes = b""
    ) -> None:
        """Guest.Restore: once, first after the machine was restored from a template."""

    async def ping(self, payload: bytes = b"") -> PingReply:
        """Guest.Ping: answers as long as the agent serves."""

    async def set_clock(self, unix_time_ns: int) -> None:
        """Guest.SetClock: after a pause the guest's clock is behind."""

    async def shutdown(self, grace: float) -> None:
        """Guest.Shutdown: returns when every process has ended and the disks are written; then the machine ends.

        Processes have `grace` seconds between SIGTERM and SIGKILL.
        """

    async def execute(self, start: ExecStart, sink: EventSink, credit: CreditGate) -> None:
        """Execution.Exec: starts a command and gives every event to `sink`; returns after the last one."""

    async def attach(self, start: AttachStart, sink: EventSink, credit: CreditGate) -> None:
        """Execution.Attach: the events of a command that runs, or has ended, from the given offsets on."""

    async def executions(self) -> Sequence[ExecutionInfo]:
        """Execution.List: all that the guest still knows, the oldest first."""

    async def kill(self, execution_id: str, signal: int) -> bool:
        """Execution.Kill: whether there was a process to receive the signal."""

    async def resize_tty(self, execution_id: str, rows: int, columns: int) -> None:
        """Execution.ResizeTty."""

    def open_input(self, execution_id: str) -> InputStreamCall:
        """Execution.SendInput: a call that stays open over many chunks."""
