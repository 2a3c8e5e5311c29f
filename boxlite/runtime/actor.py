"""The actor that knows a runtime's boxes by their names."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from actors import Actor, ActorRef, ChildSpec, Message, Restart, StartAborted, StopFailed, Supervisor, SupervisorStopped
from boxlite.boxes.actor import BoxActor
from boxlite.boxes.boot import BootServices
from boxlite.boxes.options import BoxOptions
from boxlite.errors import BoxExists, BoxliteError, BoxNotFound, RuntimeClosed
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
            case CreateBox():
                return await self._create(message)
            case FindBox(name=name):
                return self._find(name)
            case ListBoxes():
                return tuple(self._records.values())
            case ForgetBox(ref=ref):
                return await self._forget(ref)
            case _:
                return await super().handle(message)

    async def _create(self, message: CreateBox) -> None:
        options = message.options
        if options.name in self._records:
            raise BoxExists(options.name, "a box of this name exists already: choose another name, or remove that one")
        deferred, abandoned = self.defer(message), trio.Event()
        deferred.on_abandon(abandoned.set)
        try:
            ref = await self._supervisor.start_child(self._child(options))
        except (StartAborted, SupervisorStopped) as error:
            raise RuntimeClosed("the runtime is ending, and makes no more boxes") from error
        if abandoned.is_set():
            await self._supervisor.stop_child(ref)
            return
        record = self._records[options.name] = BoxRecord(options, ref)
        deferred.reply(record)

    def _child(self, options: BoxOptions) -> ChildSpec:
        directory, services, runtime = self._directory / secrets.token_hex(8), self._services, self.ref

        async def on_removed(box: ActorRef) -> None:
            await runtime.tell(ForgetBox(box))

        # A box's crash must not boot it again behind its user's back: whoever uses it next hears of it.
        return ChildSpec(
            options.name,
            lambda: BoxActor(options, directory, services, on_removed),
            restart=Restart.TEMPORARY,
        )

    def _find(self, name: str) -> BoxRecord:
        if name not in self._records:
            raise BoxNotFound(name, "there is no such box")
        return self._records[name]

    async def _forget(self, ref: ActorRef) -> None:
        # An actor that has crashed is gone already, and its crash is on record.
        with suppress(StopFailed):
            await self._supervisor.stop_child(ref)
        record = self._records.get(ref.name)
        if record is not None and record.ref is ref:
            del self._records[ref.name]
