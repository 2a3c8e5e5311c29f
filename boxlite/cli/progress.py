"""What boxlite is doing while the user waits, shown on stderr where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeAlias

Stage: TypeAlias = Callable[[str], AbstractContextManager[object]]
"""`with stage("booting"): ...` shows that text, and the time it takes, for the block. Stages may overlap."""


@contextmanager
def show_progress() -> Iterator[Stage]:
    """Gives a way to show stages; nothing of them is left on the terminal after the block."""
    if not sys.stderr.isatty():
        yield nullcontext
        return
    # rich takes a tenth of a second to import, which a script need not pay.
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        @contextmanager
        def stage(text: str) -> Iterator[None]:
            task = progress.add_task(text, total=None)
            try:
                yield
            finally:
                progress.remove_task(task)

        yield stage
