"""What a runtime does first with the boxes that an earlier one has left: decisions, and their execution."""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from boxlite.boxes.changes import BoxChange
from boxlite.boxes.lifecycle import BoxEvent, BoxState, transition
from boxlite.boxes.policy import RestartKind
from boxlite.boxes.services import BoxServices
from boxlite.errors import BoxliteError
from boxlite.store.records import StoredBox

PUT_DOWN_SECONDS = 15.0
"""How long the end of one box's left-over machine, or of its files, may take."""

_CONCURRENT = 16

_log = logging.getLogger(__name__)


class Decision(enum.Enum):
    """What becomes of a stored box."""

    KEEP = "keep"
    """Nothing of it ran."""
    ADOPT = "adopt"
    """Its machine was to outlive its runtime: the box's actor takes it over, or learns how it died."""
    PUT_DOWN = "put down"
    """Its machine was to end with its runtime: what is left of it ends now."""
    DISCARD = "discard"
    """Its removal was under way and is finished; or it was of no use beyond its runtime."""


def decide(box: StoredBox) -> Decision:
    """By what was stored alone. Whether a process still is the one that was stored, its engine judges."""
    if box.auto_remove:
        return Decision.DISCARD
    match box.state:
        case BoxState.REMOVED:
            return Decision.DISCARD
        case BoxState.RUNNING | BoxState.PAUSED if box.vm is not None and box.vm.keeper is not None:
            return Decision.ADOPT
        case BoxState.STARTING | BoxState.RUNNING | BoxState.PAUSED | BoxState.STOPPING:
            return Decision.PUT_DOWN
        case BoxState.CONFIGURED | BoxState.STOPPED | BoxState.FAILED:
            return Decision.KEEP


def starts_again(box: StoredBox) -> bool:
    """Whether its restart policy starts a box when a runtime opens. One that never ran is left alone."""
    if box.state not in (BoxState.STOPPED, BoxState.FAILED):
        return False
    kind = box.options.restart.kind
    return kind is RestartKind.ALWAYS or (kind is RestartKind.UNLESS_STOPPED and not box.stopped_by_hand)


async def recover(services: BoxServices, directory: Path) -> None:
    """Brings what is stored into agreement with what is there; each box alone, some at a time.

    A box that resists is logged, and holds up nobody. Afterwards those that are stored as running are for adoption.
    """
    limiter = trio.CapacityLimiter(_CONCURRENT)

    async def settle(box: StoredBox, how: Callable[[StoredBox, Path, BoxServices], Awaitable[None]]) -> None:
        async with limiter:
            try:
                await how(box, directory / box.id, services)
            except (BoxliteError, OSError, trio.TooSlowError) as error:
                _log.warning("what an earlier runtime left of box %s could not be settled: %s", box.name, error)

    async with trio.open_nursery() as nursery:
        for box in services.store.load():
            match decide(box):
                case Decision.PUT_DOWN:
                    nursery.start_soon(settle, box, _put_down)
                case Decision.DISCARD:
                    nursery.start_soon(settle, box, discard)
                case Decision.KEEP | Decision.ADOPT:
                    pass


async def discard(box: StoredBox, directory: Path, services: BoxServices) -> None:
    """Finishes a removal: the machine, the files, and last the row, so that it can be begun again at any point."""
    with trio.fail_after(PUT_DOWN_SECONDS):
        await services.engine.put_down(box.vm, directory=directory)
        await services.storage.remove(directory)
    services.store.delete(box.id)


def ended_with_runtime(box: StoredBox, now: float) -> StoredBox:
    """The box after the event that its runtime has ended, and its machine with it."""
    after = transition(box.name, box.state, BoxEvent.RUNTIME_ENDED)
    return attrs.evolve(box, state=after, cause="it ended with its runtime", changed_at=now, vm=None)


async def _put_down(box: StoredBox, directory: Path, services: BoxServices) -> None:
    with trio.move_on_after(PUT_DOWN_SECONDS) as scope:
        await services.engine.put_down(box.vm, directory=directory)
    if scope.cancelled_caught:
        _log.warning("the machine that box %s had in an earlier runtime does not end", box.name)
    ended = ended_with_runtime(box, services.wall_clock())
    services.store.save(ended)
    announce_end(box, ended, services)


def announce_end(box: StoredBox, ended: StoredBox, services: BoxServices) -> None:
    """Tells that the box has ended with an earlier runtime."""
    services.announce(
        BoxChange(box.name, box.id, BoxEvent.RUNTIME_ENDED, box.state, ended.state, ended.changed_at, ended.cause)
    )
