"""Names of boxes, as the shell completes them."""

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
