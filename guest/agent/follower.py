"""One host's view of an execution: its events, as far as the credit goes."""

from __future__ import annotations

from guest.agent import loop
from proto.lean.messages import ExecEvent, Output, Started
from proto.lean.messages import OutputStream as StreamName

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from guest.agent.execution import Execution
    from proto.lean.messages import Credit

_STARTED_WAITS = 0.01
"""Seconds that it is not told at most that a command has started, in case that there is more to tell."""

_NAMES = {StreamName.STDOUT: "STDOUT", StreamName.STDERR: "STDERR"}


class Superseded(Exception):
    """Somebody else follows the execution now."""


class Follower:
    """Takes an execution's output from the given offsets on; whoever did before gets `Superseded`.

    While there is a follower the command waits for it, and after `hold` for the next one; after `release` its output is
    kept as far as memory goes. Raises ValueError for an offset that the stream has not reached.
    """

    def __init__(self, execution: Execution, credit: Credit, *, stdout_offset: int = 0, stderr_offset: int = 0) -> None:
        self._execution = execution
        self._wake = loop.Event()
        self._due = False
        self._error: Exception | None = None
        offsets = {StreamName.STDOUT: stdout_offset, StreamName.STDERR: stderr_offset}
        limits = _limits(credit)
        for name, output in execution.outputs.items():
            if offsets[name] > output.end:
                raise ValueError(f"{_NAMES[name]} has {output.end} bytes so far, none at {offsets[name]}")
        for name, output in execution.outputs.items():
            output.attach(offsets[name], limits[name])
        execution.follow(self)

    def allow(self, credit: Credit) -> None:
        """More may be sent."""
        if self._execution.follower is self:
            limits = _limits(credit)
            for name, output in self._execution.outputs.items():
                output.allow(limits[name])

    def interrupt(self, error: Exception) -> None:
        """Lets `run` end with this error."""
        self._error = self._error or error
        self._wake.set()

    def changed(self) -> None:
        """See `Listener`."""
        self._wake.set()

    def superseded(self) -> None:
        """See `Listener`."""
        self.interrupt(Superseded("the execution is followed elsewhere now"))

    def hold(self) -> None:
        """Was cut off. Does nothing when done before, or when superseded."""
        if self._execution.follower is self:
            self._execution.hold()

    def release(self) -> None:
        """Takes no more. Does nothing when done before, or when superseded."""
        if self._execution.follower is self:
            self._execution.release()

    async def run(self, send: Callable[[ExecEvent], Awaitable[None]]) -> None:
        """Sends every event, from Started to Exited."""
        started: ExecEvent | None = ExecEvent(started=Started(pid=self._execution.pid))
        # A short command has said something, or has ended, before it would take as long again as its start: then all
        # of that leaves together.
        due = loop.call_later(min(self._execution.launched_within, _STARTED_WAITS), self._start_is_due)
        try:
            await self._run(send, started)
        finally:
            due.cancel()

    def _start_is_due(self) -> None:
        self._due = True
        self._wake.set()

    async def _run(self, send: Callable[[ExecEvent], Awaitable[None]], started: ExecEvent | None) -> None:
        outputs = self._execution.outputs
        while True:
            self._wake.clear()
            if self._error is not None:
                raise self._error
            # Exited ends the streams too: a short command needs no message for the end of each.
            ended = self._execution.exited is not None and all(output.taken for output in outputs.values())
            taken = [(name, chunk) for name, output in outputs.items() if (chunk := output.take()) is not None]
            if started is not None and (taken or ended or self._due):
                await send(started)
                started = None
            if ended:
                await send(ExecEvent(exited=self._execution.exited))
                return
            for name, chunk in taken:
                event = Output(stream=name, offset=chunk.offset, data=chunk.data, eof=chunk.eof)
                await send(ExecEvent(output=event))
            if not taken:
                await self._wake.wait()


def _limits(credit: Credit) -> dict[int, int]:
    return {StreamName.STDOUT: credit.stdout_limit, StreamName.STDERR: credit.stderr_limit}
