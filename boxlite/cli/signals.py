"""Ctrl-C and its like: the first one is for the command in the box, the next one for boxlite itself."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import final

import trio

from boxlite.boxes.execution import Execution
from boxlite.cli.failure import Interrupted
from boxlite.errors import GuestRefused, PortalLost


@final
class SignalRelay:
    """Made by `relay_signals` alone, valid in that block."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.gave_up: int | None = None
        self._execution: Execution | None = None

    def forward_to(self, execution: Execution) -> None:
        """The next signal goes to this command's process group."""
        self._execution = execution

    def take(self, number: int) -> Execution | None:
        """Decides about one signal: it is for the command that is returned, or else it cancels the block."""
        if self._execution is None or number == signal.SIGHUP:
            self.gave_up = number
            self.scope.cancel()
            return None
        execution, self._execution = self._execution, None
        return execution


@asynccontextmanager
async def relay_signals() -> AsyncIterator[SignalRelay]:
    """Takes SIGINT, SIGQUIT, SIGTERM and SIGHUP for the block.

    The first goes to the command that was named with `forward_to`. A second one, SIGHUP, and any that comes before a
    command was named cancel the block, which then raises `Interrupted`.
    """
    relay = SignalRelay()
    try:
        with trio.open_signal_receiver(*_wanted()) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch, signals, relay)
                with relay.scope:
                    yield relay
                nursery.cancel_scope.cancel()
    except Exception as error:
        if relay.gave_up is None:
            raise
        # A ^C reaches child processes too, and their failures are its consequences.
        raise Interrupted(relay.gave_up) from error
    if relay.gave_up is not None:
        raise Interrupted(relay.gave_up)


def _wanted() -> tuple[signal.Signals, ...]:
    """What nohup, or a shell without job control, has told this process to ignore stays ignored."""
    optional = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    return (signal.SIGTERM, *(number for number in optional if signal.getsignal(number) is not signal.SIG_IGN))


async def _watch(signals: AsyncIterator[int], relay: SignalRelay) -> None:
    async with trio.open_nursery() as nursery:
        async for number in signals:
            execution = relay.take(number)
            if execution is not None:
                # In a task of its own: a guest that does not answer must not hold up the next signal.
                nursery.start_soon(_forward, execution, number)


async def _forward(execution: Execution, number: int) -> None:
    # A command or machine that has ended meanwhile is reported by whoever waits for it.
    with suppress(GuestRefused, PortalLost):
        await execution.kill(number)
