"""`python -m benchmarks boxes [--json FILE] [--samples N]`: measure, and print each figure beside its limit."""

from __future__ import annotations

import json
from pathlib import Path

import click
import trio
from rich.console import Console

from benchmarks import boxes
from benchmarks.rows import as_json, as_notes, as_table


@click.group()
def main() -> None:
    """Measurements of BoxLite on Trio."""


@main.command("boxes")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows as JSON, too.")
@click.option("--samples", default=30, show_default=True, type=click.IntRange(3), help="Of each quick measurement.")
def boxes_command(file: Path | None, samples: int) -> None:
    """Start, exec round trip and streaming of boxes, against the bare engine and the guest's own spawn."""
    rows = trio.run(boxes.measure, samples)
    if file is not None:
        file.write_text(json.dumps(as_json(rows), indent=2) + "\n")
    console = Console(highlight=False)
    console.print(as_table(rows))
    console.print(as_notes(rows))


if __name__ == "__main__":
    main()
