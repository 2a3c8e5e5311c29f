"""How a command that boxlite ran for its user ended: told on stderr or in JSON, and as boxlite's own status."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial

import click
import trio

from boxlite.boxes.outcome import TimedOut, VmDied, exit_status
from boxlite.cli.communicate import Finished, Sink
from boxlite.cli.descriptors import write_all
from boxlite.cli.document import Capture, describe_result
from boxlite.cli.failure import complain, errors_in_json
from boxlite.cli.standard import STDERR, STDOUT
from boxlite.cli.timings import timings_table


def run_to_end(work: Callable[[Sink, Sink], Awaitable[Finished]], *, as_json: bool, timings: bool = False) -> int:
    """Runs `work`, which is given where the command's stdout and stderr go, and gives the status to end with.

    Raises what `work` raises; with `as_json` it is told on stdout first. `timings` tells the stages of the call, too.
    """
    if as_json:
        return _for_programs(work, timings)
    finished = _for_people(work)
    if timings:
        click.echo(timings_table(finished.stages), err=True)
    return exit_status(finished.outcome)


def _for_people(work: Callable[[Sink, Sink], Awaitable[Finished]]) -> Finished:
    finished = trio.run(work, partial(write_all, STDOUT), partial(write_all, STDERR))
    match finished.outcome:
        case VmDied(console=console) as died:
            complain(f"the command {died}" + (f"; its console:\n{console}" if console else ""))
        case TimedOut():
            complain("the command timed out")
    return finished


def _for_programs(work: Callable[[Sink, Sink], Awaitable[Finished]], timings: bool) -> int:
    stdout, stderr = Capture(), Capture()
    with errors_in_json(True):
        finished = trio.run(work, stdout.keep, stderr.keep)
    result = describe_result(finished.outcome, finished.duration, bytes(stdout.data), bytes(stderr.data))
    for stream, gaps in (("stdout", finished.stdout_lost), ("stderr", finished.stderr_lost)):
        if gaps:
            result[stream]["lost"] = [{"start": gap.start, "end": gap.end} for gap in gaps]
    if timings:
        result["stage_seconds"] = dict(finished.stages)
    click.echo(json.dumps(result))
    return exit_status(finished.outcome)
