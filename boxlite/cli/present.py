"""Boxes as they are now, without opening a runtime: the store's last word, and whether its machines still run.

Nothing is changed, and the lock of the home is left alone, so that this works beside a runtime of another process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from boxlite.boxes.lifecycle import BoxState
from boxlite.errors import BoxNotFound
from boxlite.metrics.process import measure_process
from boxlite.runtime.layout import find_home
from boxlite.store.records import StoredBox
from boxlite.store.view import read_boxes


def present_boxes(home: str | None) -> tuple[StoredBox, ...]:
    """All boxes of a home, the oldest first; none where there is no home yet. Raises `StoreFailed`."""
    return tuple(present(box) for box in read_boxes(find_home(home).path))


def find_boxes(home: str | None, names: Sequence[str]) -> tuple[list[StoredBox], list[BoxNotFound]]:
    """The boxes of these names in their order, and an error for each name that no box has. Raises `StoreFailed`."""
    boxes = {box.name: box for box in present_boxes(home)}
    wanted = tuple(dict.fromkeys(names))
    return [boxes[name] for name in wanted if name in boxes], _missing(name for name in wanted if name not in boxes)


def present(box: StoredBox) -> StoredBox:
    """The box as the next runtime will find it: one whose machine is gone does not run, whatever was stored last."""
    if box.vm is None or box.state not in (BoxState.RUNNING, BoxState.PAUSED):
        return box
    if measure_process(box.vm.process) is not None:
        return box
    if box.vm.keeper is not None:
        return attrs.evolve(box, state=BoxState.FAILED, cause="its virtual machine has ended", vm=None)
    return attrs.evolve(box, state=BoxState.STOPPED, cause="it ended with its runtime", vm=None)


def _missing(names: Iterable[str]) -> list[BoxNotFound]:
    return [BoxNotFound(name, "there is no such box") for name in names]
