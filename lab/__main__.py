"""The command line: `python -m lab run -- COMMAND...` runs a command of this checkout in the lab."""

from __future__ import annotations

import argparse
import os
import signal
import sys

import trio

import boxlite
from boxlite.errors import first_error
from lab import bench
from lab.contents import CHECKOUT
from lab.machine import open_machine
from lab.preparation import cache_directory, environment, prepare
from lab.tests import prepare_tests

UNAVAILABLE = 77
"""The exit status where there is no lab: what test runners (automake's, meson's) take for "skipped"."""


def main() -> int:
    """Exits as the command did, with 128 and the signal's number where that ended it, or with `UNAVAILABLE`."""
    parser = argparse.ArgumentParser(prog="lab", description="Run a command in a machine that has a real /dev/kvm.")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("prepare", help="make the machine's disks, and boot nothing")
    run = actions.add_parser("run", help="boot the machine, run a command in it, and end it")
    run.add_argument("command", nargs="+", help="the command and its arguments, after --")
    test = actions.add_parser("test", help="run the tests that are about libkrun, by pytest")
    test.add_argument("arguments", nargs="*", help="for pytest, in place of all of these tests; after --")
    measure = actions.add_parser("bench", help="measure boxes beside bare libkrun and other packages")
    measure.add_argument(
        "--rounds", type=int, default=1, help="each in an outer machine of its own for each contestant"
    )
    measure.add_argument("--only", nargs="+", choices=bench.NAMES, default=["ours", "libkrun"], help="whom to measure")
    arguments = parser.parse_args()
    try:
        return trio.run(_until_terminated, arguments)
    except ExceptionGroup as group:
        error = first_error(group)
        if not isinstance(error, boxlite.BoxliteError):
            raise
        print(f"lab: {error}", file=sys.stderr)
        return UNAVAILABLE


async def _until_terminated(arguments: argparse.Namespace) -> int:
    """SIGTERM ends it as ^C does: with everything that it has begun."""
    status = 128 + signal.SIGTERM
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            status = await _main(arguments)
            nursery.cancel_scope.cancel()
    return status


async def _main(arguments: argparse.Namespace) -> int:
    cache = cache_directory()
    command = arguments.command if arguments.action == "run" else []
    if arguments.action == "test":
        command = await prepare_tests(arguments.arguments)
    if arguments.action == "bench":
        print(bench.as_table(await bench.bench(cache, arguments.only, arguments.rounds)))
        return 0
    spec = await prepare(cache)
    if arguments.action == "prepare":
        return 0
    async with open_machine(spec) as machine:
        status = await machine.run(command, cwd=CHECKOUT, environment=environment(cache), output=_pass_on)
    return status if status >= 0 else 128 - status


def _pass_on(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    sys.exit(main())
