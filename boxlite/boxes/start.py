"""One start of a box's machine: restored from a template where it has no disk of its own yet, else booted."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from math import inf
from pathlib import Path
from typing import Final, final

import trio

from actors import ActorError
from boxlite.boxes.bring_up import GuestIdentity, connect, set_up, take_up
from boxlite.boxes.preparation import Preparation, with_scratch
from boxlite.boxes.services import BoxServices
from boxlite.boxes.stages import Stages
from boxlite.errors import BootFailed, BoxliteError, first_error
from boxlite.portal.interface import GuestSession
from boxlite.store.records import StoredBox
from boxlite.templates.messages import DiscardTemplate, ObtainTemplate
from boxlite.templates.store import Template
from boxlite.vmm.engine import Snapshot, SnapshotDamaged, Vm

RESTORE_SECONDS: Final = 30.0
"""How long a restored machine has to take commands, which takes it a fraction of a second, before it boots instead."""

SUSPECT_SECONDS: Final = 3.0
"""A restored machine that took no commands for so long costs its template, also where its box could not wait longer."""

_CLEANUP_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


@final
class Start:
    """`begin` is called once."""

    def __init__(
        self, box: StoredBox, directory: Path, services: BoxServices, stages: Stages, preparation: Preparation
    ) -> None:
        self._box = box
        self._directory = directory
        self._services = services
        self._stages = stages
        self._recipe = preparation.recipe
        self._spec = preparation.spec
        self._identity = GuestIdentity(box.name, machine_id(box.id))
        timeout = box.options.boot_timeout
        self._deadline = inf if timeout is None else trio.current_time() + timeout
        self._launched_at = inf

    async def begin(self, closing: AsyncExitStack) -> tuple[Vm, GuestSession]:
        """A machine that takes commands; closing the stack ends it. Raises as `boxlite.boxes.boot.boot` does."""
        # The container of a template is built, and has no volumes. Clones have its memory copy-on-write, too, and with
        # QEMU a machine with shares has its memory in common with their server.
        if not self._spec.shares and not await self._services.storage.has_scratch(self._directory):
            template = await self._obtain()
            if template is not None:
                restored = await self._try_to_restore(closing, template)
                if restored is not None:
                    return restored
        with self._stages.measure("disk"):
            scratch = await self._services.storage.make_scratch(self._directory, self._box.options.disk_mib)
        return await self._launch(closing, scratch, None)

    async def _obtain(self) -> Template | None:
        with self._stages.measure("template"):
            try:
                return await self._services.templates.ask(ObtainTemplate(self._recipe, self._deadline))
            except ActorError as error:
                _log.warning("box %s boots, since nobody has templates: %s", self._box.name, error)
                return None
            except BootFailed as error:
                reason = self._late if trio.current_time() >= self._deadline else error.reason
                raise BootFailed(self._box.name, reason, error.console, ended=error.ended) from error

    async def _try_to_restore(self, closing: AsyncExitStack, template: Template) -> tuple[Vm, GuestSession] | None:
        """None where the template is of no use; then nothing of the attempt is left, and the box can boot."""
        try:
            return await self._restore(closing, template)
        except Exception as error:
            cause = first_error(error)
            now = trio.current_time()
            late = now >= self._deadline
            # Anything else has to do with this host's state, and not with the template's.
            useless = isinstance(cause, BootFailed) and (not late or now - self._launched_at >= SUSPECT_SECONDS)
            if useless or isinstance(cause, SnapshotDamaged):
                await self._discard(template)
            if late or not isinstance(cause, BoxliteError | OSError):
                raise
            _log.warning("box %s could not be restored from its template, and boots: %s", self._box.name, cause)
        return None

    async def _discard(self, template: Template) -> None:
        try:
            await self._services.templates.ask(DiscardTemplate(template))
        except (ActorError, BoxliteError) as error:
            _log.warning("the template of box %s is of no use, and could not be removed: %s", self._box.name, error)

    async def _restore(self, closing: AsyncExitStack, template: Template) -> tuple[Vm, GuestSession]:
        async with self._turn():
            try:
                with self._stages.measure("disk"):
                    scratch = await self._services.storage.copy_scratch(template.scratch, self._directory)
                return await self._launch(closing, scratch, template.snapshot)
            except BaseException:
                # The box has not run, so that its next start is its first one.
                with trio.move_on_after(_CLEANUP_SECONDS, shield=True):
                    await self._services.storage.remove_scratch(self._directory)
                raise

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Restores take turns. Boots do not: one that hangs would hold up all others."""
        with self._stages.measure("turn"), trio.CancelScope(deadline=self._deadline) as scope:
            await self._services.restores.acquire_on_behalf_of(self)
        if scope.cancelled_caught:
            raise BootFailed(self._box.name, self._late)
        try:
            yield
        finally:
            self._services.restores.release_on_behalf_of(self)

    async def _launch(
        self, closing: AsyncExitStack, scratch: Path, snapshot: Snapshot | None
    ) -> tuple[Vm, GuestSession]:
        """Raises `BootFailed` where the machine was launched and does not take commands."""
        spec = with_scratch(self._spec, scratch)
        name, stages = self._box.name, self._stages
        began = self._launched_at = trio.current_time()
        async with AsyncExitStack() as attempt:
            vm = await attempt.enter_async_context(
                self._services.engine.launch(
                    spec, directory=self._directory, detached=self._box.options.detached, restore=snapshot
                )
            )
            stages.seconds["spawn"] = trio.current_time() - began
            with self._bounded(
                vm, self._deadline if snapshot is None else min(self._deadline, began + RESTORE_SECONDS)
            ):
                with stages.measure("connect"):
                    session = await connect(name, vm)
                attempt.callback(session.close)
                now = self._services.wall_clock()
                if snapshot is None:
                    await set_up(name, vm, session, spec, self._identity, now, stages, self._box.options.volumes)
                else:
                    await take_up(name, vm, session, self._identity, now, stages)
            closing.push_async_exit(attempt.pop_all())
            return vm, session

    @contextmanager
    def _bounded(self, vm: Vm, deadline: float) -> Iterator[None]:
        with trio.CancelScope(deadline=deadline) as scope:
            yield
        if scope.cancelled_caught:
            late = self._late if deadline == self._deadline else "it could not be restored"
            raise BootFailed(self._box.name, late, vm.console.tail())

    @property
    def _late(self) -> str:
        return f"the guest was not ready within {self._box.options.boot_timeout:g} seconds"


def machine_id(box_id: str) -> str:
    """What a box's /etc/machine-id says: 32 hexadecimal digits (machine-id(5)), the same at each of its starts."""
    return hashlib.sha256(f"boxlite machine {box_id}".encode()).hexdigest()[:32]
