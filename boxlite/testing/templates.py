"""What keeps templates on a simulated host: `boxlite.templates.store.TemplateStore` without files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

import attrs

from boxlite.templates.key import Recipe, TemplateKey
from boxlite.templates.store import Template, TemplateInfo
from boxlite.testing.host import HOME, BoxFiles, SimulatedHost
from boxlite.testing.process import HostProcess

DRAFTS = HOME / "templates"

_DISK_BYTES = 100 << 20


@final
class SimulatedTemplates:
    """Keeps what a simulated engine has saved. Nothing is renamed: a template's files stay where they were made."""

    def __init__(self, host: SimulatedHost, process: HostProcess) -> None:
        self._host = host
        self._disk = host.disk
        self._process = process

    async def find(self, key: TemplateKey) -> Template | None:
        """See `TemplateStore`. A template whose memory is gone is seen to be damaged; one whose state is, is not."""
        await self._host.take_time()
        kept = self._disk.templates.get(key.name())
        if kept is None:
            return None
        template, info = kept
        if template.snapshot.memory not in self._disk.memories:
            self._forget(info.name)
            return None
        if self._process.alive:
            self._disk.templates[info.name] = template, attrs.evolve(info, used_at=self._host.date())
        return template

    @asynccontextmanager
    async def open_draft(self) -> AsyncIterator[Path]:
        """See `TemplateStore`."""
        await self._host.take_time()
        self._disk.check()
        draft = DRAFTS / f"draft-{self._host.random.getrandbits(64):016x}"
        if self._process.alive:
            self._disk.boxes[draft] = BoxFiles()
        try:
            yield draft
        finally:
            if self._process.alive:
                self._remove_draft(draft)

    async def publish(self, recipe: Recipe, template: Template) -> Template:
        """See `TemplateStore`."""
        await self._host.take_time()
        if self._process.alive:
            self._disk.check()
            now = self._host.date()
            name = recipe.key.name()
            info = TemplateInfo(name, recipe.key, str(recipe.reference), _DISK_BYTES, created_at=now, used_at=now)
            self._disk.templates[name] = template, info
        return template

    async def list(self) -> tuple[TemplateInfo, ...]:
        """See `TemplateStore`."""
        await self._host.take_time()
        infos = [info for _, info in self._disk.templates.values()]
        return tuple(sorted(infos, key=lambda info: info.used_at, reverse=True))

    async def remove(self, name: str) -> bool:
        """See `TemplateStore`."""
        await self._host.take_time()
        return self._forget(name)

    async def discard(self, template: Template) -> None:
        """See `TemplateStore`."""
        await self._host.take_time()
        name = template.key.name()
        if name in self._disk.templates and self._disk.templates[name][0] == template:
            self._forget(name)

    async def sweep(self) -> None:
        """See `TemplateStore`."""
        await self._host.take_time()
        for draft in {path.parent for path in (*self._disk.memories, *self._disk.snapshots)} | set(self._disk.boxes):
            if draft.parent == DRAFTS and self._process.alive:
                self._remove_draft(draft)

    def _forget(self, name: str) -> bool:
        if not self._process.alive or name not in self._disk.templates:
            return False
        template, _ = self._disk.templates.pop(name)
        self._remove_draft(template.scratch.parent)
        return True

    def _remove_draft(self, draft: Path) -> None:
        """What no template is made of."""
        self._disk.boxes.pop(draft, None)
        if any(template.scratch.parent == draft for template, _ in self._disk.templates.values()):
            return
        self._disk.memories = {path for path in self._disk.memories if path.parent != draft}
        self._disk.snapshots = {path: saved for path, saved in self._disk.snapshots.items() if path.parent != draft}
