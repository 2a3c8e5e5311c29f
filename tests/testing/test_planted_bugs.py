"""The simulation finds bugs: each of these is planted in the real code, alone, and is found within `SEEDS` seeds.

That the seeds find nothing where nothing is planted is what test_simulation.py shows.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any

import attrs
import pytest

from actors import EventKind
from boxlite.boxes import life
from boxlite.boxes.boot import Running
from boxlite.boxes.life import Life
from boxlite.boxes.lifecycle import BoxEvent, BoxState
from boxlite.boxes.machine import Machine
from boxlite.boxes.record import Record
from boxlite.boxes.streams import ByteStream
from boxlite.runtime.admission import Lease
from boxlite.testing.simulation import Scenario, simulate

SEEDS = 40


def skip_a_transition(patch: pytest.MonkeyPatch) -> None:
    """A start is neither stored nor announced."""
    move = Record.move

    def skipping(self: Record, event: BoxEvent, **changes: Any) -> None:
        if event is BoxEvent.START:
            self.box = attrs.evolve(self.box, state=BoxState.STARTING)
        else:
            move(self, event, **changes)

    patch.setattr(Record, "move", skipping)


def lose_an_exit(patch: pytest.MonkeyPatch) -> None:
    """A box never hears that its machine has died."""
    on_event = life.Life._on_event

    def deaf(self: life.Life, event: Any) -> None:
        if event.kind is not EventKind.CRASHED:
            on_event(self, event)

    patch.setattr(life.Life, "_on_event", deaf)


def leak_a_machine(patch: pytest.MonkeyPatch) -> None:
    """A detached machine is left to itself also where it was to end."""
    close = Machine._close

    async def leave_it(self: Machine) -> None:
        if self.record.keeper is None:
            await close(self)
            return
        self._vm.release()
        self.give_up("left to itself")
        self._nursery.cancel_scope.cancel()

    patch.setattr(Machine, "_close", leave_it)


def lose_a_process_record(patch: pytest.MonkeyPatch) -> None:
    """Which process a box's machine is is never stored."""
    move = Record.move

    def forgetful(self: Record, event: BoxEvent, **changes: Any) -> None:
        move(self, event, **changes | ({"vm": None} if "vm" in changes else {}))

    patch.setattr(Record, "move", forgetful)


def keep_a_share_of_the_budget(patch: pytest.MonkeyPatch) -> None:
    """What a box had of the runtime's memory is never given back."""
    patch.setattr(Lease, "release", lambda self: None)


def lose_a_byte(patch: pytest.MonkeyPatch) -> None:
    """The last byte of a long piece of output is dropped."""
    feed = ByteStream.feed

    def dropping(self: ByteStream, data: bytes) -> None:
        feed(self, data)
        if len(data) > 1000 and self._chunks:
            self._chunks[-1] = memoryview(data)[:-1]

    patch.setattr(ByteStream, "feed", dropping)


def restart_twice(patch: pytest.MonkeyPatch) -> None:
    """Where the policy asks for one machine in place of a dead one, two are started."""
    run = Life.run

    async def run_twice(
        self: Life, random: Random, open_running: Callable[[bool], AbstractAsyncContextManager[Running]]
    ) -> None:
        @asynccontextmanager
        async def open_two(first: bool) -> AsyncIterator[Running]:
            async with open_running(first) as running:
                if first:
                    yield running
                    return
                async with open_running(first):
                    yield running

        await run(self, random, open_two)

    patch.setattr(Life, "run", run_twice)


@pytest.mark.parametrize(
    "plant",
    [
        skip_a_transition,
        lose_an_exit,
        leak_a_machine,
        lose_a_process_record,
        keep_a_share_of_the_budget,
        lose_a_byte,
        restart_twice,
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    logging.disable()
    try:
        found = next((seed for seed in range(SEEDS) if simulate(Scenario.draw(seed)).failure is not None), None)
    finally:
        logging.disable(logging.NOTSET)
    assert found is not None, f"{plant.__name__} was not found in {SEEDS} seeds"
