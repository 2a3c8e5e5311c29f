"""A box's virtual machine while it runs: its connection, its pauses, its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, final

import attrs
import trio

from actors.intensity import RestartWindow
from boxlite.boxes.lifecycle import BoxEvent
from boxlite.boxes.outcome import VmDied
from boxlite.errors import BoxDied, GuestRefused, PortalLost
from boxlite.metrics.counters import BoxCounters
from boxlite.portal.interface import GuestSession
from boxlite.vmm.engine import Vm, VmRecord

RECONNECT_SECONDS: Final = 30.0
"""How long a guest that lost its connection has to come back, while its processors run."""

RECONNECTS: Final = 10
"""How many lost connections within `RECONNECT_PERIOD` are not too many yet."""

RECONNECT_PERIOD: Final = 60.0
"""In seconds."""

KILL_GRACE: Final = 10.0
"""Seconds that a killed virtual machine has to be gone."""

CONTROL_SECONDS: Final = 5.0
"""How long a machine's engine may take to obey: to pause, to go on, to switch itself off."""

END_GRACE: Final = 2.0
"""A machine that ends hangs up first, and its end says more than the symptom: how long to wait for it."""

_SETTLE_SECONDS: Final = 0.5
"""The same before a lost connection is called so; what runs in the box waits meanwhile."""

_RETRY_SECONDS: Final = 0.5
"""Between two attempts to connect, the first of which failed at once."""


@attrs.frozen
class Owner:
    """The box that a machine belongs to."""

    box: str
    counters: BoxCounters
    wall_clock: Callable[[], float]
    """Seconds since the epoch."""
    on_portal: Callable[[BoxEvent, str], None]
    """Is called with PORTAL_LOST or RECONNECTED and the cause."""
    on_stalled: Callable[[str], None]
    """Is called with the reason when the engine has paused the machine by itself."""
    keeps: Callable[[], bool]
    """Whether the machine is to run on when its block is left."""


@final
class Machine:
    """A virtual machine that takes commands, or is paused. Made by `open_machine` alone, valid in that block."""

    def __init__(
        self, vm: Vm, owner: Owner, session: GuestSession | None, nursery: trio.Nursery, *, paused: bool
    ) -> None:
        self.box = owner.box
        self.counters = owner.counters
        self.ended = trio.Event()
        self.pauses = 0
        """How often it was paused."""
        self._vm = vm
        self._owner = owner
        self._nursery = nursery
        self._session = session
        self._reason = ""
        self._news = trio.Event()
        self._control = trio.Lock()
        self._unpaused = trio.Event()
        if not paused:
            self._unpaused.set()

    @property
    def record(self) -> VmRecord:
        """By what a later runtime finds it."""
        return self._vm.record

    @property
    def pid(self) -> int:
        """Of the process that is the virtual machine."""
        return self._vm.record.process.pid

    @property
    def session(self) -> GuestSession:
        """The newest connection to its agent. Raises `PortalLost` where there was none yet."""
        if self._session is None:
            raise PortalLost(self.box, "its agent has not answered yet")
        return self._session

    @property
    def paused(self) -> bool:
        """Whether its processors stand still."""
        return not self._unpaused.is_set()

    async def reconnected(self, lost: GuestSession | None) -> GuestSession:
        """The connection that follows `lost`, which is closed, or the first one.

        Raises `BoxDied` when the machine has ended, or was given up because its guest did not come back.
        """
        if lost is not None:
            lost.close()
        while not self.ended.is_set():
            if self._session is not None and self._session is not lost:
                await trio.lowlevel.checkpoint()
                return self._session
            await self._news.wait()
        raise self.error()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Runs a task that ends with the machine at the latest."""
        if self.ended.is_set():
            raise self.error()
        self._nursery.start_soon(task)

    async def pause(self) -> None:
        """Stops its processors. Raises OSError where the machine does not obey; nothing happens where it is paused."""
        async with self._control:
            if not self.paused:
                await self._vm.pause()
                self._note_pause()

    async def resume(self) -> None:
        """Lets its processors go on, and sets its clock. Raises OSError as `pause` does."""
        async with self._control:
            if not self.paused:
                return
            await self._vm.resume()
            self._unpaused.set()
        if self._session is not None:
            # A connection that breaks now is replaced, and the next one sets the clock, too.
            try:
                await self._session.set_clock(self._now())
            except (PortalLost, GuestRefused):
                return

    def _note_pause(self) -> None:
        self._unpaused = trio.Event()
        self.pauses += 1

    async def wait_unpaused(self) -> None:
        """Returns at once where its processors run."""
        await self._unpaused.wait()

    async def press_power_button(self) -> None:
        """Asks its engine to end it with its disks flushed, and returns when it was asked. Raises OSError."""
        await self._vm.press_power_button()

    def give_up(self, reason: str) -> None:
        """Ends it for a reason of the host's."""
        if not self.ended.is_set():
            self._reason = reason
            self.ended.set()
            self._tell()

    def console_tail(self, lines: int = 20) -> str:
        """The last lines that the machine printed, safe for a terminal."""
        return self._vm.console.tail(lines)

    def died(self) -> VmDied:
        """The outcome of what ran in it when it ended."""
        return VmDied(self._reason, self.console_tail())

    def error(self) -> BoxDied:
        """The error of what is asked of it after its end."""
        return BoxDied(self.box, self._reason, self.console_tail())

    async def why_lost(self, symptom: str) -> VmDied:
        """What was behind a symptom: the machine's end, which follows at once; or else it is given up for it."""
        with trio.move_on_after(END_GRACE):
            await self.ended.wait()
        self.give_up(symptom)
        return self.died()

    async def _watch(self) -> None:
        how = await self._vm.wait()
        self.give_up(f"its process {how}")

    async def _watch_stalls(self) -> None:
        while not self.ended.is_set():
            reason = await self._vm.wait_stalled()
            async with self._control:
                if not self.paused:
                    self._note_pause()
                    self._owner.on_stalled(reason)

    async def _keep_connected(self) -> None:
        losses = RestartWindow[str](RECONNECTS, RECONNECT_PERIOD)
        cause = "its runtime had ended"
        while not self.ended.is_set():
            known = self._session
            if known is not None:
                cause = await known.wait_lost()
                with trio.move_on_after(_SETTLE_SECONDS):
                    await self.ended.wait()
                    return
                self._owner.on_portal(BoxEvent.PORTAL_LOST, cause)
            if not losses.admits(trio.current_time(), cause):
                self.give_up(f"the connection to its agent was lost too often, at last since {cause}")
                return
            await self._reconnect(cause)
            if known is not None and not self.ended.is_set():
                self._owner.on_portal(BoxEvent.RECONNECTED, cause)

    async def _reconnect(self, cause: str) -> None:
        """Returns with a new connection, or when it has given the machine up."""
        while True:
            await self.wait_unpaused()
            with trio.move_on_after(RECONNECT_SECONDS):
                self._session = await self._connect()
                self._tell()
                return
            # A guest that was paused meanwhile could not answer.
            if not self.paused:
                self.give_up(f"its agent did not come back within {RECONNECT_SECONDS:g} seconds: {cause}")
                return

    async def _connect(self) -> GuestSession:
        """The first connection that carries an answer, however many that takes."""
        while True:
            try:
                session = await self._vm.connect()
            except (OSError, ValueError):
                await trio.sleep(_RETRY_SECONDS)
                continue
            try:
                await session.ping()
                await session.set_clock(self._now())
                return session
            except (PortalLost, GuestRefused):
                session.close()
                await trio.sleep(_RETRY_SECONDS)
            except BaseException:
                session.close()
                raise

    def _tell(self) -> None:
        """Wakes whoever waits for a connection or the end."""
        news, self._news = self._news, trio.Event()
        news.set()

    def _now(self) -> int:
        return round(self._owner.wall_clock() * 1e9)

    async def _close(self) -> None:
        """Ends it, unless its owner keeps it, and what runs for it."""
        kept = self._owner.keeps() and not self.ended.is_set()
        if self._session is not None:
            self._session.close()
        if kept:
            self._vm.release()
            self.give_up("its runtime has ended; the machine runs on")
        else:
            self._vm.kill()
            with trio.move_on_after(KILL_GRACE, shield=True):
                await self._vm.wait()
            # Where the block was cancelled, the task that watches the machine was so too.
            self.give_up(f"its process {self._vm.exit or 'does not end'}")
        self._nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_machine(
    vm: Vm, owner: Owner, session: GuestSession | None, *, paused: bool = False
) -> AsyncIterator[Machine]:
    """Holds a machine that was launched or adopted; leaving the block ends it, unless its owner keeps it.

    Without a session it connects by itself, as it does again whenever a connection was lost.
    """
    async with trio.open_nursery() as nursery:
        machine = Machine(vm, owner, session, nursery, paused=paused)
        nursery.start_soon(machine._watch)
        nursery.start_soon(machine._keep_connected)
        nursery.start_soon(machine._watch_stalls)
        try:
            yield machine
        finally:
            await machine._close()
