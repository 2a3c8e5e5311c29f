"""The end of a machine that was asked to stop: first its guest, then its power button; what is left is killed."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import Final, final

import trio

from boxlite.boxes.machine import CONTROL_SECONDS, Machine
from boxlite.boxes.reconnect import on_any_connection
from boxlite.errors import BoxDied, GuestRefused
from boxlite.portal.interface import GuestSession

SHUTDOWN_SECONDS: Final = 5.0
"""What a guest has, beyond what its processes have, to write its disks and power off."""


@final
class Ending:
    """A stop, from when it was asked for. Whoever asks again can only hasten it."""

    def __init__(self) -> None:
        self._asked = trio.Event()
        self._deadline = inf
        self._attempt: trio.CancelScope | None = None

    @property
    def asked(self) -> bool:
        """Whether somebody has asked for it."""
        return self._asked.is_set()

    def ask(self, grace: float) -> None:
        """Processes have `grace` seconds from now on, unless they have less already."""
        deadline = trio.current_time() + grace
        if deadline < self._deadline:
            self._deadline = deadline
            if self._attempt is not None:
                self._attempt.cancel()
        self._asked.set()

    async def wait_asked(self) -> None:
        """Returns when somebody has asked for it."""
        await self._asked.wait()

    async def end(self, machine: Machine) -> None:
        """Asks the guest, then the engine, to end the machine; returns when it has ended, or none of them did that.

        Takes the grace, `SHUTDOWN_SECONDS` and twice `CONTROL_SECONDS` at most: the guest may hang or lie. Leaving the
        machine's block kills what is left.
        """
        if machine.paused:
            with trio.move_on_after(CONTROL_SECONDS):
                try:
                    await machine.resume()
                except OSError:
                    return
        while not machine.ended.is_set():
            with trio.CancelScope() as self._attempt:
                await self._ask_guest(machine)
            hastened, self._attempt = self._attempt.cancelled_caught, None
            if not hastened:
                break
        if not machine.ended.is_set():
            with trio.move_on_after(CONTROL_SECONDS):
                try:
                    await machine.press_power_button()
                except OSError:
                    return
                await machine.ended.wait()

    async def _ask_guest(self, machine: Machine) -> None:
        """Returns when the machine has ended, or its guest has had its time."""
        deadline = max(self._deadline, trio.current_time()) + SHUTDOWN_SECONDS
        with trio.CancelScope(deadline=deadline), suppress(GuestRefused, BoxDied):
            # One that was paused when it was taken over has no connection yet.
            await on_any_connection(machine, self._shut_down)
            # Its processes have ended and its disks are written. It would go off by itself now, in longer than it takes
            # to end it.
            machine.give_up("it was shut down")

    async def _shut_down(self, session: GuestSession) -> None:
        await session.shutdown(max(0.0, self._deadline - trio.current_time()))
