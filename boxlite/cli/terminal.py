"""The user's terminal, lent to a command in a box."""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click
import trio

from boxlite.boxes.command import TtySize
from boxlite.boxes.execution import Execution
from boxlite.cli.standard import STDIN
from boxlite.errors import GuestRefused, PortalLost


def check_terminal(tty: bool, as_json: bool) -> None:
    """Refuses `--tty` where there is no terminal, or where its bytes would go into JSON; raises click's errors."""
    if tty and as_json:
        raise click.UsageError("--tty and --json exclude each other")
    if tty and not os.isatty(STDIN):
        raise click.ClickException("the input device is not a TTY: leave --tty out, or run this in a terminal")


def window_size(descriptor: int) -> TtySize:
    """The present size of the terminal behind `descriptor`."""
    size = os.get_terminal_size(descriptor)
    return TtySize(rows=size.lines, columns=size.columns)


@contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """Hands every key on as it is, Ctrl-C included; leaving the block, in any way, restores the terminal.

    What was typed before and not read is kept.
    """
    before = termios.tcgetattr(descriptor)
    # Now, and not once the output has drained: that would hang on a terminal that was stopped with Ctrl-S.
    tty.setraw(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        with suppress(termios.error):  # The terminal is gone.
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


async def follow_window_size(descriptor: int, execution: Execution) -> None:
    """Tells the command every new size of the terminal, until it is cancelled or the command has ended."""
    told = execution.command.tty
    with trio.open_signal_receiver(signal.SIGWINCH) as changes:
        while True:
            size = window_size(descriptor)
            if size != told:
                try:
                    await execution.resize_tty(size.rows, size.columns)
                except (GuestRefused, PortalLost):
                    return
                told = size
            await anext(changes)
