"""Health checks: a command, again and again, that tells whether a box is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from boxlite.boxes.boot import Running
from boxlite.boxes.changes import Health
from boxlite.boxes.command import make_command
from boxlite.boxes.execution import open_execution
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.outcome import Exited
from boxlite.boxes.policy import HealthCheck
from boxlite.errors import BoxliteError
from boxlite.printable import printable

MAX_DETAIL: Final = 4096
"""Bytes of what a check says that are kept, as in Docker."""

_SLACK: Final = 10.0
"""Seconds beyond its timeout after which a check has failed, whatever its guest does."""


async def watch_health(
    running: Running, options: BoxOptions, check: HealthCheck, report: Callable[[Health, int, str], None]
) -> None:
    """Checks as long as it is not cancelled; `report` is told of each check: health, failures in a row, and why.

    While the box is paused it waits, and a check that a pause fell into does not count.
    """
    health, failures = Health.STARTING, 0
    counts_from = trio.current_time() + check.start_period
    while True:
        await trio.sleep(check.interval)
        await running.machine.wait_unpaused()
        pauses = running.machine.pauses
        problem = await _check(running, options, check)
        if running.machine.pauses != pauses:
            continue
        if problem is None:
            health, failures = Health.HEALTHY, 0
        elif health is not Health.STARTING or trio.current_time() >= counts_from:
            failures += 1
            if failures >= check.retries:
                health = Health.UNHEALTHY
        report(health, failures, problem or "")


async def _check(running: Running, options: BoxOptions, check: HealthCheck) -> str | None:
    """What is wrong; None where the command exits with 0."""
    command = make_command(
        check.command, env=None, cwd=None, user=None, tty=None, timeout=check.timeout, merge_stderr=True
    ).resolve(running.config, options)
    said = bytearray()
    try:
        with trio.move_on_after(check.timeout + _SLACK) as patience:
            async with open_execution(running.machine, command, stdin=False, stop_group_on_exit=True) as execution:
                async for chunk in execution.stdout:
                    said += chunk[: MAX_DETAIL - len(said)]
                outcome = await execution.wait()
    except BoxliteError as error:
        return str(error)
    if patience.cancelled_caught:
        return "the guest did not end it in time"
    return None if outcome == Exited(0) else f"it {outcome}: {printable(said).strip()}"
