"""One start of a box, by hand, by its policy or by its adoption, with the restarts that follow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Final, Protocol, final

import trio

from actors import Backoff, ChildSpec, Event, EventKind, Restart, open_supervisor
from boxlite.boxes.boot import Running
from boxlite.boxes.ending import Ending
from boxlite.boxes.machine_actor import MachineActor
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.policy import RestartKind, RestartPolicy
from boxlite.errors import BoxliteError, BoxStopped

BACKOFF: Final = Backoff(0.1, 60.0, jitter=0.1)
"""Before each restart, as Docker has it: 0.1 s, then twice as long each time, up to a minute. Jitter keeps boxes apart
that died together. A box that ran for longer than a minute begins again with 0.1 s."""

SHUTDOWN = 20.0
"""Seconds that the actor of a machine has to clean up: more than the machine's own steps take together."""


class LifeEvents(Protocol):
    """What a life tells the box that it belongs to, synchronously, in the step that decides on it."""

    def restarting(self, life: Life) -> None:
        """Another machine is about to be started; may raise, and then it is not."""

    def ready(self, life: Life, running: Running) -> None:
        """The machine takes commands, or was found paused."""

    def died(self, life: Life, error: BaseException) -> None:
        """The machine did not start, or has ended on its own."""

    def restart_due(self, life: Life, delay: float) -> None:
        """Another one will be started in `delay` seconds."""


@final
class Life:
    """Supervises the box's machines, one after the other. `run` is its task; the rest is synchronous."""

    def __init__(self, options: BoxOptions, events: LifeEvents, *, by_hand: bool, restarts: int) -> None:
        """One that was begun `by_hand` ends with an error when its first machine does not start.

        `restarts` is how often the policy has started the box already, in the life that this one continues.
        """
        self.by_hand = by_hand
        self.ending = Ending()
        self.running: Running | None = None
        self.came_up = False
        """Whether a machine of it took commands."""
        self.undone = False
        """Whether it was cancelled because nobody waits for it any more."""
        self.down = False
        """Whether its machine has died, and either no other one follows or that is not due yet."""
        self.scope = trio.CancelScope()
        """Around all of it."""
        self._options = options
        self._restarts = restarts
        self._events = events
        self._over = trio.Event()
        self._news = trio.Event()
        self._gone = trio.Event()
        self._machines = 0

    async def run(self, random: Random, open_running: Callable[[bool], AbstractAsyncContextManager[Running]]) -> None:
        """Returns when the machine has ended as it was asked to, or has died and is not started again.

        `open_running` starts or adopts a machine; it is told whether it is the first one. Raises why the first one did
        not start.
        """

        def make() -> MachineActor:
            first = self._machines == 0
            if not first:
                self._events.restarting(self)
                self.down = False
            self._machines += 1
            return MachineActor(
                self._options.name,
                lambda: open_running(first),
                self.ending,
                self._got_ready,
                waits=self.by_hand,
            )

        restart, max_restarts = _supervision(self._options.restart, self._restarts)
        spec = ChildSpec(
            "machine",
            make,
            restart=restart,
            max_restarts=max_restarts,
            backoff=BACKOFF,
            shutdown=SHUTDOWN,
            expected=(BoxliteError,),
        )
        async with open_supervisor(self._options.name, intensity=None, random=random, on_event=self._on_event) as above:
            await above.start_child(spec)
            await self._over.wait()

    async def wait_running(self) -> Running:
        """The machine that runs, once it is there; raises `BoxStopped` where it has ended, or could not be had."""
        await self._news.wait()
        if self.running is None:
            raise BoxStopped(self._options.name, "it has just ended")
        return self.running

    async def wait_gone(self) -> None:
        """Returns when the machine that runs has ended and the box was told."""
        await self._gone.wait()

    def undo(self) -> None:
        """Nobody waits for the start any more."""
        self.undone = True
        self.scope.cancel()

    def kill(self) -> None:
        """Ends it at once, whatever it does."""
        self.ending.ask(0)
        self.scope.cancel()

    def _got_ready(self, running: Running) -> None:
        if self.undone:
            # Its end is on its way, which takes some steps: a box that is called running now would be kept.
            return
        self.running, self.came_up = running, True
        self._gone = trio.Event()
        self._news.set()
        self._events.ready(self, running)

    def _on_event(self, event: Event) -> None:
        match event.kind:
            case EventKind.CRASHED:
                assert event.error is not None
                self.running, self.down = None, True
                self._events.died(self, event.error)
                self._news.set()
                self._gone.set()
                if self.ending.asked:
                    self.scope.cancel()
            case EventKind.RESTARTING:
                assert event.delay is not None
                self._events.restart_due(self, event.delay)
            case EventKind.STOPPED:
                self.running = None
                self._news.set()
                self._gone.set()
                self._over.set()
            case _:
                pass


def _supervision(policy: RestartPolicy, restarts: int) -> tuple[Restart, int | None]:
    """What the supervisor of the box's machine is told: when to restart it, and how often at most.

    `restarts` is how often the policy has started the box already.

    A machine that ends on its own has died, whatever its exit status: its guest had no reason to switch it off.
    """
    if policy.kind is RestartKind.NO:
        return Restart.TEMPORARY, None
    retries = policy.max_retries
    return Restart.TRANSIENT, None if retries is None else max(0, retries - restarts)
