"""The actor that has a template for every kind of box: one per runtime."""

from __future__ import annotations

import logging
from functools import partial
from math import inf
from typing import Any, Final

import trio

from actors import Actor, Deferred, Message
from boxlite.errors import BootFailed, BoxliteError, TemplateFailed, TemplateNotFound, first_error
from boxlite.images.shared import SharedWork
from boxlite.templates.build import Workshop, build_template
from boxlite.templates.key import PLACEHOLDER, Recipe, TemplateKey
from boxlite.templates.messages import (
    BuildTemplate,
    DiscardTemplate,
    ListTemplates,
    ObtainTemplate,
    PruneTemplates,
    RemoveTemplate,
)
from boxlite.templates.store import Template, TemplateInfo
from boxlite.vmm.console import Console

RETRY_SECONDS: Final = 300.0
"""After a template could not be made, boxes of its kind boot for so long before it is tried again."""

_log = logging.getLogger(__name__)


class TemplateActor(Actor):
    """Finds templates, makes them, and throws them away."""

    rejections = (BoxliteError,)

    def __init__(self, workshop: Workshop, *, enabled: bool = True) -> None:
        """One that is not `enabled` has no template for anybody, and makes none."""
        self._workshop = workshop
        self._enabled = enabled
        self._builds: SharedWork[TemplateKey, Template] = SharedWork(self.start_soon)
        self._consoles: dict[TemplateKey, Console] = {}
        """Of the machines that templates are being made by."""
        self._retry_at: dict[TemplateKey, float] = {}
        """Until when templates that could not be made are not tried again, by Trio's clock."""

    async def started(self) -> None:
        """Removes what killed processes left unfinished."""
        try:
            await self._workshop.store.sweep()
        except BoxliteError as error:
            _log.warning("unfinished templates could not be removed: %s", error)

    async def handle(self, message: Message[Any]) -> Any:
        """See `boxlite.templates.messages`."""
        match message:
            case ObtainTemplate():
                self.start_soon(self._answer, self.defer(message), partial(self._obtain, message))
            case BuildTemplate():
                self.start_soon(self._answer, self.defer(message), partial(self._build_info, message))
            case DiscardTemplate(template):
                await self._workshop.store.discard(template)
            case ListTemplates():
                return await self._workshop.store.list()
            case RemoveTemplate(name):
                return await self._remove(name)
            case PruneTemplates(before):
                return await self._prune(before)
            case _:
                return await super().handle(message)
        return None

    async def _answer(self, deferred: Deferred[Any], work: Any) -> None:
        with trio.CancelScope() as scope:
            deferred.on_abandon(scope.cancel)
            try:
                result = await work()
            except (BoxliteError, OSError) as error:
                deferred.fail(error)
            else:
                deferred.reply(result)

    async def _obtain(self, message: ObtainTemplate) -> Template | None:
        key = message.recipe.key
        if not message.recipe.saves:
            return None
        if not self._enabled or trio.current_time() < self._retry_at.get(key, -inf):
            return None
        try:
            return await self._get(message.recipe, message.deadline)
        except BootFailed:
            raise
        except (BoxliteError, OSError) as error:
            self._retry_at[key] = trio.current_time() + RETRY_SECONDS
            _log.warning("no template of %s could be made, so boxes of it boot: %s", message.recipe.reference, error)
            return None

    async def _get(self, recipe: Recipe, deadline: float) -> Template:
        """Raises what `build_template` raises, and never a group; `BootFailed` where the deadline passes."""
        with trio.CancelScope(deadline=deadline):
            found = await self._workshop.store.find(recipe.key)
            return found or await self._builds.get(recipe.key, partial(self._build, recipe))
        console = self._consoles.get(recipe.key)
        raise BootFailed(PLACEHOLDER, "the guest was not ready in time", "" if console is None else console.tail())

    async def _build(self, recipe: Recipe) -> Template:
        key = recipe.key

        def watch(console: Console) -> None:
            self._consoles[key] = console

        try:
            # An earlier build may have ended since the asker looked.
            return await self._workshop.store.find(key) or await build_template(recipe, self._workshop, watch)
        except ExceptionGroup as group:
            raise first_error(group) from group
        finally:
            self._consoles.pop(key, None)

    async def _build_info(self, message: BuildTemplate) -> TemplateInfo:
        if not self._enabled:
            raise TemplateFailed("this runtime has no templates: open it with templates_mib above 0")
        if not message.recipe.saves:
            raise TemplateFailed(
                f"the engine {message.recipe.spec.kind} saves no machines, so boxes boot: keep some ready in a pool, "
                "or open the runtime with the engine qemu"
            )
        timeout = message.boot_timeout
        template = await self._get(message.recipe, inf if timeout is None else trio.current_time() + timeout)
        self._retry_at.pop(template.key, None)
        name = template.key.name()
        for info in await self._workshop.store.list():
            if info.name == name:
                return info
        raise TemplateFailed(f"the template {name} was removed as soon as it was made")

    async def _remove(self, name: str) -> TemplateInfo:
        infos = [info for info in await self._workshop.store.list() if name and info.name.startswith(name)]
        if len(infos) != 1:
            known = "no template has" if not infos else f"{len(infos)} templates have"
            raise TemplateNotFound(f"{known} a name that begins with {name!r}: `boxlite template list` shows them")
        await self._workshop.store.remove(infos[0].name)
        return infos[0]

    async def _prune(self, before: float) -> tuple[TemplateInfo, ...]:
        unused = [info for info in await self._workshop.store.list() if info.used_at < before]
        return tuple([info for info in unused if await self._workshop.store.remove(info.name)])
