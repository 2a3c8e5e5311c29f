"""`python -m boxlite.testing.simulate`: many seeds of a runtime with boxes, users and faults, checked at every step."""

from __future__ import annotations

import json
import logging
import sys
import time

import attrs
import click

from boxlite.testing.simulation import Report, Scenario, simulate


@click.command()
@click.option("--seeds", default=100, show_default=True, type=click.IntRange(1), help="How many seeds, from 0 on.")
@click.option("--seed", type=click.IntRange(0), help="This seed alone: the replay of a failure.")
@click.option("--boxes", default=4, show_default=True, type=click.IntRange(1), help="At most so many boxes at once.")
@click.option("--faults", default=4, show_default=True, type=click.IntRange(0), help="At most so many faults a seed.")
@click.option("--trace", is_flag=True, help="Print every event.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a seed.")
def main(seeds: int, seed: int | None, boxes: int, faults: int, trace: bool, as_json: bool) -> None:
    """Simulates runtimes in virtual time, and exits with 1 at the first seed that breaks a promise.

    The same seed with the same options gives the same run, event for event.
    """
    # Machines die here by the hundred, on purpose; a trace says more of it.
    logging.disable()
    lifecycles = 0
    began = time.perf_counter()
    chosen = range(seeds) if seed is None else (seed,)
    for number in chosen:
        report = simulate(Scenario.draw(number, boxes=boxes, faults=faults))
        lifecycles += report.lifecycles
        _show(report, trace=trace, as_json=as_json)
        if report.failure is not None:
            command = f"python -m boxlite.testing.simulate --seed {number} --boxes {boxes} --faults {faults} --trace"
            click.echo(f"seed {number} fails: {report.failure}\nreplay it with: {command}", err=True)
            sys.exit(1)
    seconds = time.perf_counter() - began
    click.echo(
        f"{len(chosen)} seeds, {lifecycles} lifecycles in {seconds:.1f} s: {lifecycles / seconds:.0f} lifecycles/s",
        err=as_json,
    )


def _show(report: Report, *, trace: bool, as_json: bool) -> None:
    if as_json:
        facts = {"seed": report.scenario.seed, "lifecycles": report.lifecycles, "failure": report.failure}
        scenario = attrs.asdict(report.scenario) | {"faults": [str(fault) for fault in report.scenario.faults]}
        click.echo(json.dumps(facts | {"scenario": scenario} | ({"trace": report.trace} if trace else {})))
    elif trace:
        for line in report.trace:
            click.echo(line)


if __name__ == "__main__":
    main()
