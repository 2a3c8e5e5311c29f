"""Which boxes are made from which images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import final

from boxlite.boxes.lifecycle import BoxState
from boxlite.images.digest import Digest
from boxlite.store.records import StoredBox
from boxlite.store.view import read_boxes


@final
class HomeUsers:
    """`boxlite.images.library.BoxUsers`: the boxes of a runtime, and those that its home keeps."""

    def __init__(self, home: Path, load: Callable[[], Iterable[StoredBox]]) -> None:
        """`load` gives the runtime's own boxes; it is called in the runtime's thread alone."""
        self._home = home
        self._load = load
        self._own: tuple[StoredBox, ...] = ()

    def refresh(self) -> frozenset[Digest]:
        """See `BoxUsers`."""
        self._own = tuple(box for box in self._load() if box.state is not BoxState.REMOVED)
        return frozenset(box.image for box in self._own if box.image is not None)

    def __call__(self) -> Mapping[Digest, Sequence[str]]:
        """See `BoxUsers`."""
        users: dict[Digest, dict[str, str]] = {}
        for box in (*read_boxes(self._home), *self._own):
            if box.image is not None and box.state is not BoxState.REMOVED:
                users.setdefault(box.image, {})[box.id] = box.name
        return {digest: tuple(sorted(boxes.values())) for digest, boxes in users.items()}
