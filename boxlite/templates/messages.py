"""What is asked of the template actor."""

from __future__ import annotations

from math import inf

import attrs

from actors import Message
from boxlite.templates.key import Recipe
from boxlite.templates.store import Template, TemplateInfo


@attrs.frozen
class ObtainTemplate(Message[Template | None]):
    """The template of a recipe, which is made where there is none; None where the box is to boot.

    The ask fails with `BootFailed`, under the name `PLACEHOLDER`, where the template's machine does not boot, or
    `deadline` (by Trio's clock) passes meanwhile. All who ask for the same one at the same time share one build, which
    ends when the last of them is cancelled.
    """

    recipe: Recipe
    deadline: float = inf


@attrs.frozen
class BuildTemplate(Message[TemplateInfo]):
    """As `ObtainTemplate`, for those who want the template itself: the ask fails with what went wrong.

    `boot_timeout` is in seconds; None waits as long as the asker does.
    """

    recipe: Recipe
    boot_timeout: float | None = None


@attrs.frozen
class DiscardTemplate(Message[None]):
    """No machine could be restored from this template: it is removed, unless it was made again meanwhile."""

    template: Template


@attrs.frozen
class ListTemplates(Message[tuple[TemplateInfo, ...]]):
    """All that are in the home, the last used first."""


@attrs.frozen
class RemoveTemplate(Message[TemplateInfo]):
    """Removes the one whose name begins so; the ask fails with `TemplateNotFound`."""

    name: str


@attrs.frozen
class PruneTemplates(Message[tuple[TemplateInfo, ...]]):
    """Removes those that were last used before a time, in seconds since the epoch; gives what was removed."""

    before: float
