"""The actor that knows a runtime's boxes by their names."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from actors import Actor, ChildSpec, Message, Restart, StopFailed, Supervisor
from boxlite.boxes.actor import BoxActor
from boxlite.boxes.boot import BootServices
from boxlite.boxes.options import BoxOptions
from boxlite.errors import BoxExists, BoxliteError, BoxNotFound
from boxlite.runtime.messages import BoxRecord, CreateBox, FindBox, ForgetBox, ListBoxes


class RuntimeActor(Actor):
    """Keeps names unique, and every box under its supervisor.

    `records` belongs to the runtime and not to one life of this actor: boxes outlive its crash.
    """

    rejections = (BoxliteError,)

    def __init__(
        self, boxes: Supervisor, directory: Path, services: BootServices, records: dict[str, BoxRecord]
    ) -> None:
        self._supervisor = boxes
        self._directory = directory
        self._services = services
        self._records = records

    async def handle(self, message: Message[Any]) -> Any:
        """See `boxlite.runtime.messages`."""
        match message:
            case CreateBox(options=options):
                return await self._create(options)
            case FindBox(name=name):
                return self._find(name)
            case ListBoxes():
                return tuple(self._records.values())
            case ForgetBox(name=name):
                return await self._forget(name)
            case _:
                return await super().handle(message)

    async def _create(self, options: BoxOptions) -> BoxRecord:
        if options.name in self._records:
            raise BoxExists(options.name, "a box of this name exists already: choose another name, or remove that one")
        directory = self._directory / secrets.token_hex(8)
        services = self._services
        # A box's crash must not boot it again behind its user's back: whoever uses it next hears of it.
        ref = await self._supervisor.start_child(
            ChildSpec(options.name, lambda: BoxActor(options, directory, services), restart=Restart.TEMPORARY)
        )
        record = self._records[options.name] = BoxRecord(options, ref)
        return record

    def _find(self, name: str) -> BoxRecord:
        if name not in self._records:
            raise BoxNotFound(name, "there is no such box")
        return self._records[name]

    async def _forget(self, name: str) -> None:
        record = self._records.pop(name, None)
        if record is not None:
            # An actor that has crashed is gone already, and its crash is on record.
            with suppress(StopFailed):
                await self._supervisor.stop_child(record.ref)
