"""A box's place in its life, and the one way to change it: checked, stored, then announced."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, final

import attrs

from boxlite.boxes.changes import BoxChange
from boxlite.boxes.lifecycle import BoxEvent, BoxState, transition
from boxlite.boxes.services import BoxServices
from boxlite.errors import StorageFull, StoreFailed
from boxlite.store.records import StoredBox

_log = logging.getLogger(__name__)

_REFUSABLE: Final = (BoxEvent.START, BoxEvent.PAUSE, BoxEvent.REMOVE)
"""Events that do not happen where they cannot be stored. All others have happened already, or must not wait: a box can
always be stopped."""


@final
class Record:
    """The box at its last transition."""

    def __init__(self, box: StoredBox, services: BoxServices, on_unstored: Callable[[], None]) -> None:
        """`on_unstored` is called when a transition has happened and could not be stored."""
        self.box = box
        self.meter = services.counters.open_meter(box)
        self._services = services
        self._on_unstored = on_unstored
        self._stored = True

    @property
    def state(self) -> BoxState:
        """Where the box is in its life."""
        return self.box.state

    def move(self, event: BoxEvent, *, cause: str = "", **changes: Any) -> None:
        """Makes a transition; `changes` are other fields of `StoredBox`.

        Raises `IllegalTransition`. What cannot be stored is refused with `StorageFull` or `StoreFailed` where that is
        possible; a transition that has happened is logged, and stored with the next one.
        """
        before = self.box
        after = transition(before.name, before.state, event)
        now = self._services.wall_clock()
        since = before.changed_at if after is before.state else now
        box = attrs.evolve(before, state=after, cause=cause, changed_at=since, **changes)
        try:
            self._services.store.save(box)
            self._stored = True
        except (StorageFull, StoreFailed) as error:
            if event in _REFUSABLE:
                raise
            _log.warning("box %s: that it is %s could not be stored yet: %s", box.name, after, error)
            if self._stored:
                self._stored = False
                self._on_unstored()
        self.box = self.meter.box = box
        if event in (BoxEvent.START_FAILED, BoxEvent.DIED):
            self._services.counters.boxes_failed += 1
        elif event is BoxEvent.REMOVE:
            self._services.counters.box_destroyed(box.id)
        self._services.announce(BoxChange(box.name, box.id, event, before.state, after, now, cause))

    def catch_up(self) -> bool:
        """Stores what could not be stored before, and says whether nothing is left to store."""
        if not self._stored:
            try:
                self._services.store.save(self.box)
            except (StorageFull, StoreFailed):
                return False
        self._stored = True
        return True
