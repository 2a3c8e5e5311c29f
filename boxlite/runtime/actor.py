"""The actor that knows a runtime's boxes by their names."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import trio

from actors import (
    Actor,
    ActorError,
    ActorRef,
    ChildSpec,
    Deferred,
    Message,
    Restart,
    StartAborted,
    StopFailed,
    Supervisor,
    SupervisorStopped,
)
from boxlite.boxes.actor import BoxActor
from boxlite.boxes.changes import BoxChange
from boxlite.boxes.lifecycle import BoxEvent, BoxState
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.services import BoxServices
from boxlite.errors import BoxExists, BoxliteError, BoxNotFound, RuntimeClosed, StorageFull, StoreFailed
from boxlite.images.digest import Digest
from boxlite.images.messages import PullPolicy, ResolveImage
from boxlite.images.reference import Reference, RegistryReference
from boxlite.runtime.admission import Lease, Need
from boxlite.runtime.messages import BoxRecord, BoxRemoved, CreateBox, FindBox, ForgetBox, ListBoxes
from boxlite.runtime.recovery import Decision, announce_end, decide, discard, ended_with_runtime
from boxlite.store.records import StoredBox

UNDO_SECONDS = 10.0
"""How long the clean-up after a creation that failed may take."""

_log = logging.getLogger(__name__)


class RuntimeActor(Actor):
    """Keeps names unique, and every box under its supervisor.

    `records` belongs to the runtime and not to one life of this actor: boxes outlive its crash.
    """

    rejections = (BoxliteError,)

    def __init__(
        self, boxes: Supervisor, directory: Path, services: BoxServices, records: dict[str, BoxRecord]
    ) -> None:
        self._supervisor = boxes
        self._directory = directory
        self._services = services
        self._records = records
        self._coming: dict[str, trio.Event] = {}

    async def started(self) -> None:
        """Every stored box has its actor."""
        for box in self._services.store.load():
            if box.name in self._records or decide(box) is Decision.DISCARD:
                continue
            if decide(box) is Decision.PUT_DOWN:
                # Its end has happened, and could not be stored.
                ended = ended_with_runtime(box, self._services.wall_clock())
                announce_end(box, ended, self._services)
                box = ended
            self._records[box.name] = await self._start(box, None)

    async def handle(self, message: Message[Any]) -> Any:
        """See `boxlite.runtime.messages`."""
        match message:
            case CreateBox():
                return self._create(message)
            case FindBox(name=name):
                return self._find(name)
            case ListBoxes():
                return tuple(self._records.values())
            case BoxRemoved(ref=ref):
                return await self._removed(ref)
            case ForgetBox(ref=ref):
                return await self._forget(ref)
            case _:
                return await super().handle(message)

    def _create(self, message: CreateBox) -> None:
        name = message.options.name
        if message.existing is None and (name in self._records or name in self._coming):
            raise _exists(name)
        deferred, scope = self.defer(message), trio.CancelScope()
        deferred.on_abandon(scope.cancel)
        # In a task of its own: it may wait for a share of the budget, and this mailbox must not.
        self.start_soon(self._make, message, deferred, scope)

    async def _make(self, message: CreateBox, deferred: Deferred[BoxRecord], scope: trio.CancelScope) -> None:
        options = message.options
        with scope:
            try:
                while options.name in self._coming:
                    await self._coming[options.name].wait()
                found = self._records.get(options.name)
                if found is not None:
                    _check_same(found, options, message.existing)
                    deferred.reply(found)
                    return
                done = self._coming[options.name] = trio.Event()
                try:
                    deferred.reply(await self._add(message, deferred, scope))
                finally:
                    del self._coming[options.name]
                    done.set()
            except (StartAborted, SupervisorStopped) as error:
                closed = RuntimeClosed("the runtime is ending, and makes no more boxes")
                closed.__cause__ = error
                deferred.fail(closed)
            except (BoxliteError, OSError, ActorError) as error:
                deferred.fail(error)

    async def _add(self, message: CreateBox, deferred: Deferred[BoxRecord], scope: trio.CancelScope) -> BoxRecord:
        """A new box; an error or a cancellation leaves no share, directory, actor or row."""
        services, options = self._services, message.options
        image = await self._find_image(options.image, message.pull)
        lease = await services.admission.admit(options.name, Need(options.memory_mib, options.cpus), wait=message.wait)
        now = services.wall_clock()
        box = StoredBox(
            f"{services.random.getrandbits(64):016x}",
            options,
            created_at=now,
            changed_at=now,
            auto_remove=message.auto_remove,
            image=image,
        )
        record: BoxRecord | None = None
        try:
            await services.storage.make_directory(self._directory / box.id)
            record = await self._start(box, lease)
            if deferred.abandoned:
                # Its asker was cancelled, and has not run since.
                scope.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()
            # From here on it exists; everything before can be undone, and nothing after this waits.
            services.store.add(box)
        except BaseException:
            lease.release()
            with trio.move_on_after(UNDO_SECONDS, shield=True):
                await self._undo(box, record)
            raise
        self._records[options.name] = record
        services.counters.boxes_created += 1
        services.announce(BoxChange(box.name, box.id, BoxEvent.CREATE, None, box.state, now))
        return record

    async def _find_image(self, reference: Reference, pull: PullPolicy) -> Digest | None:
        """What the image's name stands for now; it comes from its registry first where it has to."""
        if not isinstance(reference, RegistryReference):
            # The first start finds out.
            return None
        return await self._services.images.ask(ResolveImage(reference, pull))

    async def _undo(self, box: StoredBox, record: BoxRecord | None) -> None:
        if record is not None:
            with suppress(StopFailed):
                await self._supervisor.stop_child(record.ref)
        self._services.counters.close_meter(box.id)
        try:
            await self._services.storage.remove(self._directory / box.id)
        except BoxliteError as error:
            _log.warning("the directory of box %s, which was not made, could not be removed: %s", box.name, error)

    async def _start(self, box: StoredBox, lease: Lease | None) -> BoxRecord:
        directory, services, runtime = self._directory / box.id, self._services, self.ref

        async def on_removed(ref: ActorRef) -> None:
            await runtime.tell(BoxRemoved(ref))

        # A box's crash must not boot it again behind its user's back: whoever uses it next hears of it.
        spec = ChildSpec(
            box.name,
            lambda: BoxActor(box, directory, services, lease, on_removed),
            restart=Restart.TEMPORARY,
        )
        ref = await self._supervisor.start_child(spec)
        return BoxRecord(box.id, box.options, ref, directory, services.counters.open_meter(box))

    def _find(self, name: str) -> BoxRecord:
        if name not in self._records:
            raise BoxNotFound(name, "there is no such box")
        return self._records[name]

    async def _removed(self, ref: ActorRef) -> None:
        # An actor that has crashed is gone already, and its crash is on record.
        with suppress(StopFailed):
            await self._supervisor.stop_child(ref)
        record = self._record(ref)
        if record is None:
            return
        try:
            self._services.store.delete(record.id)
        except (StorageFull, StoreFailed) as error:
            # Its row says that it was removed, so the next runtime deletes it.
            _log.warning("the row of box %s, which was removed, stays for now: %s", ref.name, error)
        del self._records[record.options.name]

    async def _forget(self, ref: ActorRef) -> None:
        record = self._record(ref)
        if record is None:
            return
        with suppress(StopFailed):
            await self._supervisor.stop_child(ref)
        for box in self._services.store.load():
            if box.id == record.id:
                removed = attrs.evolve(box, state=BoxState.REMOVED, changed_at=self._services.wall_clock())
                self._services.store.save(removed)
                await discard(removed, record.directory, self._services)
        del self._records[record.options.name]
        self._services.counters.box_destroyed(record.id)

    def _record(self, ref: ActorRef) -> BoxRecord | None:
        record = self._records.get(ref.name)
        return record if record is not None and record.ref is ref else None


def _exists(name: str) -> BoxExists:
    return BoxExists(name, "a box of this name exists already: choose another name, or remove that one")


def _check_same(found: BoxRecord, wanted: BoxOptions, compared: frozenset[str] | None) -> None:
    """Raises `BoxExists` where a box is not what was asked for."""
    if compared is None:
        raise _exists(wanted.name)
    differences = [
        f"{name} is {getattr(found.options, name)}, not {getattr(wanted, name)}"
        for name in sorted(compared)
        if getattr(found.options, name) != getattr(wanted, name)
    ]
    if differences:
        raise BoxExists(
            wanted.name,
            f"it exists with other options: {'; '.join(differences)}: remove it, or ask for it as it is",
        )
