"""What an application can do with templates; boxes see to their own."""

from __future__ import annotations

from typing import final

from boxlite.boxes.box import ask
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.preparation import prepare
from boxlite.boxes.services import BoxServices
from boxlite.boxes.stages import Stages
from boxlite.images.reference import parse_reference
from boxlite.templates.key import PLACEHOLDER
from boxlite.templates.messages import BuildTemplate, ListTemplates, PruneTemplates, RemoveTemplate
from boxlite.templates.store import TemplateInfo


@final
class Templates:
    """The saved machines in a runtime's home, from which boxes are restored. `Runtime.templates` gives it."""

    def __init__(self, services: BoxServices) -> None:
        self._services = services

    async def build(
        self,
        image: str,
        *,
        cpus: int = 1,
        memory_mib: int = 256,
        disk_mib: int = 4096,
        boot_timeout: float | None = None,
    ) -> TemplateInfo:
        """The template of boxes with these options; made where there is none, as by the first start of such a box.

        Its machine is not counted in the runtime's budget. Raises `InvalidReference`, `InvalidOptions`, an
        `ImageError`, `BootFailed` where its machine does not boot within `boot_timeout` seconds, `TemplateFailed`,
        `StorageFull`, or another `BoxliteError` or OSError. Cancelling leaves no template, unless a box waits for it.
        """
        options = BoxOptions(
            parse_reference(image),
            name=PLACEHOLDER,
            cpus=cpus,
            memory_mib=memory_mib,
            disk_mib=disk_mib,
            boot_timeout=boot_timeout,
        )
        preparation = await prepare(options, self._services, Stages())
        return await ask(self._services.templates, BuildTemplate(preparation.recipe, options.boot_timeout))

    async def list(self) -> tuple[TemplateInfo, ...]:
        """All that are in the home, the last used first."""
        return await ask(self._services.templates, ListTemplates())

    async def remove(self, name: str) -> TemplateInfo:
        """Removes the template whose name begins so; raises `TemplateNotFound` unless there is exactly one.

        Boxes that were restored from it are unharmed; the next one of its kind makes it again.
        """
        return await ask(self._services.templates, RemoveTemplate(name))

    async def prune(self, *, unused_for: float = 0.0) -> tuple[TemplateInfo, ...]:
        """Removes those from which no box was restored in the last `unused_for` seconds; gives what was removed."""
        return await ask(self._services.templates, PruneTemplates(self._services.wall_clock() - unused_for))
