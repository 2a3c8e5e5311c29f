"""`python -m benchmarks NAME [--json FILE]`: measure, and print each figure beside its limit."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import click
import trio
from rich.console import Console

from benchmarks import actors
from benchmarks.rows import Row, as_json, as_notes, as_table, from_json

PAGE = Path(__file__).parents[1] / "docs/performance.md"
PICTURES = Path("pictures/performance")
"""Beside the page."""

_JSON = click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows as JSON, too."
)


@click.group()
def main() -> None:
    """Measurements of BoxLite on Trio."""


@main.command("boxes")
@_JSON
@click.option("--only", multiple=True, metavar="NAME", help="This row, or this group of rows; may be given again.")
@click.option("--quick", is_flag=True, help="Fewer samples and boxes: two minutes, and coarse figures.")
@click.option(
    "--samples", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Times the samples."
)
@click.option("--crowd", "crowds", multiple=True, type=click.IntRange(1), help="Boxes at once; may be given again.")
@click.option("--patience", type=click.FloatRange(1), help="Seconds that each group of rows may take.")
def boxes_command(
    file: Path | None,
    only: tuple[str, ...],
    quick: bool,
    samples: float,
    crowds: tuple[int, ...],
    patience: float | None,
) -> None:
    """Starts, commands, streams and crowds of boxes, against the bare engine and the guest's own ways."""
    # Not at the top: it brings trio-asyncio, under whose event loop policy xoscar would run at half its speed.
    from benchmarks.boxes import plan
    from benchmarks.boxes.bench import FULL, QUICK

    try:
        effort = (QUICK if quick else FULL).scaled(samples)
        if crowds:
            effort = attrs.evolve(effort, crowds=tuple(sorted(set(crowds))))
        if patience is not None:
            effort = attrs.evolve(effort, section_seconds=patience)
        rows = trio.run(plan.measure, effort, only, lambda name: click.echo(f"{name} ...", err=True))
    except KeyError as error:
        raise click.BadParameter(error.args[0], param_hint="--only") from None
    _show(rows, file, "Boxes", "limit: the bare engine or the guest itself doing the same, in the same run")


@main.command("actors")
@_JSON
@click.option("--rounds", default=actors.ROUNDS, show_default=True, type=click.IntRange(1), help="Of each rate.")
def actors_command(file: Path | None, rounds: int) -> None:
    """Tell, ask, restarts and memory of actors, against Trio by hand, pykka and xoscar (extra `bench`)."""
    rows = actors.measure(rounds)
    _show(rows, file, "Actors", "limit: Trio by hand, or the other library, in the same run")


@main.command("simulation")
@_JSON
def simulation_command(file: Path | None) -> None:
    """Whole lives of simulated boxes, against the Trio that they take."""
    from benchmarks import simulation

    _show(simulation.measure(), file, "Simulation", "limit: bare Trio, in the same run")


@main.command("images")
@_JSON
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Of each build and each read.")
def images_command(file: Path | None, rounds: int) -> None:
    """From layers to a disk, against umoci unpack, erofs and the image's own size (needs debootstrap, erofs-utils)."""
    from benchmarks.images import plan

    rows = trio.run(plan.measure, rounds, lambda name: click.echo(f"{name} ...", err=True))
    _show(rows, file, "Images", "limit: another tool doing the same with the same image, in the same run")


@main.command("report")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--page", default=PAGE, type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
def report_command(file: Path, page: Path) -> None:
    """Make docs/performance.md and its pictures of the rows that `boxes --json FILE` wrote (extra `bench`)."""
    from benchmarks.report.page import write_page
    from benchmarks.report.pictures import draw

    rows = from_json(json.loads(file.read_text()))
    draw(rows, page.parent / PICTURES)
    page.write_text(write_page(rows, PICTURES))


def _show(rows: list[Row], file: Path | None, title: str, caption: str) -> None:
    if file is not None:
        file.write_text(json.dumps(as_json(rows), indent=2) + "\n")
    console = Console(highlight=False)
    console.print(as_table(rows, title, caption))
    console.print(as_notes(rows))


if __name__ == "__main__":
    main()
