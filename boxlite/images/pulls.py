"""Pulls in progress: one for all who want the same image, and each of them hears how far it is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, final

import attrs

from boxlite.images.digest import Digest
from boxlite.images.registry.progress import LayerProgress, OnProgress
from boxlite.images.shared import SharedWork

Work: TypeAlias = Callable[[OnProgress], Awaitable[Digest]]

_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class _Told:
    """What one pull has told so far, and who hears it."""

    last: dict[Digest, LayerProgress] = attrs.field(factory=dict)
    listeners: list[OnProgress] = attrs.field(factory=list)

    def tell(self, progress: LayerProgress) -> None:
        self.last[progress.digest] = progress
        for listener in tuple(self.listeners):
            self._tell_one(listener, progress)

    def join(self, listener: OnProgress) -> None:
        self.listeners.append(listener)
        for progress in tuple(self.last.values()):
            self._tell_one(listener, progress)

    def _tell_one(self, listener: OnProgress, progress: LayerProgress) -> None:
        try:
            listener(progress)
        except Exception:
            # It is a stranger's, and must not end what others wait for.
            _log.exception("what was to hear of a pull's progress has failed, and hears no more")
            if listener in self.listeners:
                self.listeners.remove(listener)


@final
class Pulls:
    """Of one actor. Who joins late hears first how far each layer is."""

    def __init__(self, start_soon: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
        """`start_soon` is that of `SharedWork`."""
        self._work: SharedWork[str, Digest] = SharedWork(start_soon)
        self._told: dict[str, _Told] = {}

    async def get(self, key: str, listener: OnProgress, work: Work) -> Digest:
        """The result of the pull under that key, or what it raised; see `SharedWork.get`."""
        with self._listening(key, listener) as told:
            return await self._work.get(key, lambda: work(told.tell))

    @contextmanager
    def _listening(self, key: str, listener: OnProgress) -> Iterator[_Told]:
        told = self._told.setdefault(key, _Told())
        # By identity: two callers may pass the same function.
        mine: OnProgress = lambda progress: listener(progress)  # noqa: E731
        told.join(mine)
        try:
            yield told
        finally:
            if mine in told.listeners:
                told.listeners.remove(mine)
            if not told.listeners and self._told.get(key) is told:
                del self._told[key]
