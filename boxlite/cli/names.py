"""Names of boxes and images, as the shell completes them."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from boxlite.errors import BoxliteError


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The boxes of the home that start so, but for those that were named already; none where none can be read."""
    # Imported here: what does not complete need not pay for it.
    from boxlite.runtime.layout import find_home
    from boxlite.store.view import read_boxes

    named = ctx.params.get("names") or ()
    try:
        boxes = read_boxes(find_home(ctx.params.get("home")).path)
    except (BoxliteError, OSError):
        # A message would end up in the middle of the user's command line.
        return []
    return [
        CompletionItem(box.name, help=str(box.state))
        for box in boxes
        if box.name.startswith(incomplete) and box.name not in named
    ]


def complete_images(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The images of the home that are called so; none where none can be read."""
    return [CompletionItem(name, help=help) for name, help in _images(ctx, incomplete)]


def complete_sources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a box can be made from: also what needs no image in the home."""
    builtin = [("builtin/python", "made out of this host's own Python")]
    return [
        CompletionItem(name, help=help)
        for name, help in (*builtin, *_images(ctx, incomplete))
        if name.startswith(incomplete)
    ]


def complete_boxes_and_images(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For what takes either."""
    return [*complete_names(ctx, param, incomplete), *complete_images(ctx, param, incomplete)]


def _images(ctx: click.Context, incomplete: str) -> list[tuple[str, str]]:
    from boxlite.cli.phrases import size
    from boxlite.cli.stored import open_store
    from boxlite.images.naming import familiar

    named = ctx.params.get("images") or ()
    try:
        images = open_store(ctx.params.get("home"), users=False).list_images()
    except (BoxliteError, OSError):
        return []
    names = {
        # Whoever begins with the registry wants the whole name.
        (name if name.startswith(incomplete) and "/" in incomplete else familiar(name)): size(info.size_bytes)
        for info in images
        for name in info.names
    }
    return [(name, help) for name, help in names.items() if name.startswith(incomplete) and name not in named]
