"""What a box's life means for its state: each end and start of its machine is a transition."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import final

from boxlite.boxes.boot import Running, adopt, boot
from boxlite.boxes.changes import Health, HealthReport
from boxlite.boxes.health import watch_health
from boxlite.boxes.life import Life
from boxlite.boxes.lifecycle import UP, BoxEvent, BoxState
from boxlite.boxes.machine import Owner
from boxlite.boxes.messages import BoxStatus
from boxlite.boxes.policy import RestartKind
from boxlite.boxes.record import Record
from boxlite.boxes.services import BoxServices
from boxlite.boxes.stages import Stages
from boxlite.store.records import StoredBox


@final
class Transitions:
    """Implements `boxlite.boxes.life.LifeEvents`, in synchronous code alone."""

    def __init__(
        self,
        box: StoredBox,
        directory: Path,
        services: BoxServices,
        *,
        on_ready: Callable[[Running], None],
        on_unstored: Callable[[], None],
    ) -> None:
        """`on_ready` is called when the box takes commands, or was found paused; `on_unstored` as by `Record`."""
        self.record = Record(box, services, on_unstored)
        self.next_restart_at: float | None = None
        """When the restart policy starts it again, in seconds since the epoch; None where that is not due."""
        self._on_ready = on_ready
        self._directory = directory
        self._services = services
        self._stages = Stages()
        self._health: Health | None = None

    def boot(self) -> AbstractAsyncContextManager[Running]:
        """A new machine for the box."""
        self._stages = Stages()
        return boot(self.record.box, self._directory, self._services, self._owner(), self._stages)

    def adopt(self) -> AbstractAsyncContextManager[Running]:
        """The machine that its last runtime has left running."""
        return adopt(self.record.box, self._directory, self._services, self._owner())

    def restarting(self, life: Life) -> None:
        """See `LifeEvents`."""
        self.next_restart_at = None
        self.record.move(BoxEvent.START, restarts=self.record.box.restarts + 1)

    def ready(self, life: Life, running: Running) -> None:
        """See `LifeEvents`."""
        vm, now = running.machine.record, self._services.wall_clock()
        match self.record.state:
            case BoxState.STARTING:
                self.record.move(BoxEvent.READY, vm=vm, config=running.config, image=running.image, started_at=now)
                self.record.meter.stages = self._stages.seconds
            case BoxState.RUNNING | BoxState.PAUSED:
                self.record.move(BoxEvent.ADOPTED, vm=vm, config=running.config)
            case _:
                # A stop has come while it was adopted.
                pass
        check = self.record.box.options.health
        if check is not None and self.record.state in UP:
            self._health = Health.STARTING
            report = partial(self._report, running)
            running.machine.start_soon(partial(watch_health, running, self.record.box.options, check, report))
        self._on_ready(running)

    def died(self, life: Life, error: BaseException) -> None:
        """See `LifeEvents`."""
        self._health = None
        match self.record.state:
            case BoxState.STARTING:
                self.record.move(BoxEvent.START_FAILED, cause=str(error), vm=None)
            case BoxState.RUNNING | BoxState.PAUSED:
                self.record.move(BoxEvent.DIED, cause=str(error), vm=None)
            case _:
                # It was to end, or the restart itself could not be stored.
                pass

    def restart_due(self, life: Life, delay: float) -> None:
        """See `LifeEvents`."""
        self.next_restart_at = self._services.wall_clock() + delay

    def ended(self, failure: Exception | None, *, undone: BoxEvent | None) -> None:
        """A life has ended: with `failure` its first machine did not start; by `undone` nobody waited for it."""
        self.next_restart_at = self._health = None
        match self.record.state:
            case BoxState.STARTING if undone is not None:
                self.record.move(undone)
            case BoxState.STARTING if failure is not None:
                self.record.move(BoxEvent.START_FAILED, cause=str(failure), vm=None)
            case BoxState.STOPPING:
                self.record.move(BoxEvent.ENDED, cause="stopped as asked", vm=None)
            case BoxState.STARTING:
                self.record.move(BoxEvent.RUNTIME_ENDED, cause="it ended with its runtime", vm=None)
            case BoxState.RUNNING | BoxState.PAUSED if not self._outlives_runtime():
                self.record.move(BoxEvent.RUNTIME_ENDED, cause="it ended with its runtime", vm=None)
            case _:
                pass

    def status(self, life: Life | None) -> BoxStatus:
        """The box at this moment."""
        box = self.record.box
        running = None if life is None else life.running
        return BoxStatus(
            name=box.name,
            state=box.state,
            image=str(box.options.image),
            pid=None if running is None else running.machine.pid,
            cause=box.cause,
            id=box.id,
            health=self._health,
            restarts=box.restarts,
            started_at=box.started_at,
            next_restart_at=self.next_restart_at,
        )

    def _owner(self) -> Owner:
        return Owner(
            box=self.record.box.name,
            counters=self.record.meter.counters,
            wall_clock=self._services.wall_clock,
            on_portal=self._on_portal,
            on_stalled=self._on_stalled,
            keeps=self._outlives_runtime,
        )

    def _outlives_runtime(self) -> bool:
        return self.record.box.options.detached and self.record.state in UP

    def _on_stalled(self, reason: str) -> None:
        if self.record.state is BoxState.RUNNING:
            self.record.move(BoxEvent.STALLED, cause=f"{reason}: make room, then resume it")

    def _on_portal(self, event: BoxEvent, cause: str) -> None:
        if self.record.state in UP:
            self.record.move(event, cause=cause if event is BoxEvent.PORTAL_LOST else "")

    def _report(self, running: Running, health: Health, failures: int, detail: str) -> None:
        box = self.record.box
        if box.state not in UP:
            # While it stops, what ends in it was asked to.
            return
        self._health = health
        self._services.announce(HealthReport(box.name, box.id, health, failures, self._services.wall_clock(), detail))
        if health is Health.UNHEALTHY and box.options.restart.kind is not RestartKind.NO:
            running.machine.give_up(f"it was unhealthy: {detail}")
