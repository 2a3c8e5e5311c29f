"""Pausing a machine and letting it go on, bounded."""

from __future__ import annotations

import trio

from boxlite.boxes.machine import CONTROL_SECONDS, Machine
from boxlite.errors import BoxUnresponsive


async def set_paused(machine: Machine, paused: bool) -> None:
    """Stops the machine's processors, or lets them go on, within `CONTROL_SECONDS`.

    Raises `BoxDied` where the machine has ended, and `BoxUnresponsive` where it does not obey.
    """
    try:
        with trio.fail_after(CONTROL_SECONDS):
            await (machine.pause() if paused else machine.resume())
    except (OSError, trio.TooSlowError) as error:
        if machine.ended.is_set():
            raise machine.error() from error
        if machine.paused is paused:
            # It goes on, and its guest did not set its clock in time: that harms nobody else.
            return
        what = "pause" if paused else "go on"
        cause = str(error) or "no answer"
        raise BoxUnresponsive(machine.box, f"its machine does not {what}: {cause}: stop() ends it") from error
