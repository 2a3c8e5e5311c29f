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
from boxlite.errors import BoxliteError
from boxlite.vmm.engines import engine_kind
from vmm_ffi.spec import VmmKind

STDOUT = Path("-")

_JSON = click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write the rows as JSON, too; with -, to standard output, and what is for people to standard error.",
)


@click.group()
def main() -> None:
    """Measurements of BoxLite on Trio."""


@main.command("boxes")
@_JSON
@click.option(
    "--engine",
    type=click.Choice([kind.value for kind in VmmKind]),
    help="What runs the boxes, and the bare machines beside them.  [default: the best one that works on this host]",
)
@click.option("--only", multiple=True, metavar="NAME", help="This row, or this group of rows; may be given again.")
@click.option("--quick", is_flag=True, help="Fewer samples and boxes: two minutes, and coarse figures.")
@click.option("--lab", is_flag=True, help="As many as the nested lab can bear (docs/lab.md).")
@click.option(
    "--samples", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Times the samples."
)
@click.option("--crowd", "crowds", multiple=True, type=click.IntRange(1), help="Boxes at once; may be given again.")
@click.option("--stream-mib", type=click.IntRange(1), help="MiB that one measurement of a stream moves.")
@click.option("--patience", type=click.FloatRange(1), help="Seconds that each group of rows may take.")
def boxes_command(
    file: Path | None,
    engine: str | None,
    only: tuple[str, ...],
    quick: bool,
    lab: bool,
    samples: float,
    crowds: tuple[int, ...],
    stream_mib: int | None,
    patience: float | None,
) -> None:
    """Starts, commands, streams and crowds of boxes, against the bare engine and the guest's own ways.

    In the nested lab, on libkrun: python -m lab run -- python -m benchmarks boxes --engine krun --lab --json - >FILE
    """
    # Not at the top: it brings trio-asyncio, under whose event loop policy xoscar would run at half its speed.
    from benchmarks.boxes import plan
    from benchmarks.boxes.bench import FULL, LAB, QUICK

    if quick and lab:
        raise click.UsageError("--quick and --lab exclude each other")
    try:
        effort = (QUICK if quick else LAB if lab else FULL).scaled(samples)
        if crowds:
            effort = attrs.evolve(effort, crowds=tuple(sorted(set(crowds))))
        if stream_mib is not None:
            effort = attrs.evolve(effort, stream_mib=stream_mib)
        if patience is not None:
            effort = attrs.evolve(effort, section_seconds=patience)
        chosen = VmmKind(engine) if engine else engine_kind("auto")
        rows = trio.run(plan.measure, effort, only, lambda text: click.echo(text, err=True), chosen)
    except KeyError as error:
        raise click.BadParameter(error.args[0], param_hint="--only") from None
    except BoxliteError as error:
        raise click.ClickException(str(error)) from None
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
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: FILE, but .md in place of .json]",
)
def report_command(file: Path, page: Path | None) -> None:
    """Make a page and its pictures of the rows that `boxes --json FILE` wrote (extra `bench`)."""
    from benchmarks.report.page import pictures_of, write_page
    from benchmarks.report.pictures import draw

    page = page or file.with_suffix(".md")
    rows = from_json(json.loads(file.read_text()))
    draw(rows, page.parent / pictures_of(page))
    page.write_text(write_page(rows, pictures_of(page)))


def _show(rows: list[Row], file: Path | None, title: str, caption: str) -> None:
    text = json.dumps(as_json(rows), indent=2) + "\n"
    if file == STDOUT:
        click.echo(text, nl=False)
    elif file is not None:
        file.write_text(text)
    console = Console(highlight=False, stderr=file == STDOUT)
    console.print(as_table(rows, title, caption))
    console.print(as_notes(rows))


if __name__ == "__main__":
    main()
