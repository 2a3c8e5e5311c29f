"""What boxlite is doing while the user waits, shown on stderr where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, final

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID
    from rich.table import Column

    from boxlite.images.digest import Digest
    from boxlite.images.registry.progress import LayerProgress

_SHOWN_DIGITS = 12


class Stage(Protocol):
    """`with stage("booting"): ...` shows that text, and the time it takes, for the block. Stages may overlap."""

    def __call__(self, text: str) -> AbstractContextManager[object]:
        """For `with`."""

    def show_layer(self, progress: LayerProgress) -> None:
        """Shows a bar for each layer of an image that is pulled."""


@final
class _Silent:
    def __call__(self, text: str) -> AbstractContextManager[object]:
        return nullcontext()

    def show_layer(self, progress: LayerProgress) -> None:
        pass


@final
class _Shown:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._layers: dict[Digest, TaskID] = {}

    @contextmanager
    def __call__(self, text: str) -> Iterator[None]:
        task = self._progress.add_task(text, total=None)
        try:
            yield
        finally:
            self._progress.remove_task(task)

    def show_layer(self, progress: LayerProgress) -> None:
        text = f"  {progress.digest.hex[:_SHOWN_DIGITS]} {progress.state.value}"
        if progress.reason:
            text += f": {progress.reason}"
        task = self._layers.get(progress.digest)
        if task is None:
            self._layers[progress.digest] = self._progress.add_task(
                text, total=progress.size, completed=progress.received
            )
        else:
            self._progress.update(task, description=text, completed=progress.received)


@contextmanager
def show_progress(*, quiet: bool = False) -> Iterator[Stage]:
    """Gives a way to show stages; nothing of them is left on the terminal after the block."""
    if quiet or not sys.stderr.isatty():
        yield _Silent()
        return
    # rich takes a tenth of a second to import, which a script need not pay.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class ForLayers(ProgressColumn):
        """A column that is empty for stages, whose end nobody knows."""

        def __init__(self, column: ProgressColumn) -> None:
            self._column = column
            super().__init__()

        def get_table_column(self) -> Column:
            return self._column.get_table_column()

        def render(self, task: Task) -> object:  # type: ignore[override]
            return Text("") if task.total is None else self._column.render(task)

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        ForLayers(BarColumn(20)),
        ForLayers(DownloadColumn()),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Shown(progress)
