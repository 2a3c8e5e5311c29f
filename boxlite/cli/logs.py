"""`boxlite logs`: what a box's machine printed, also while another process has the home."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import final

import click
import trio

from boxlite.boxes.lifecycle import BoxState
from boxlite.cli.failure import errors_in_json
from boxlite.cli.options import home_option, json_option, name_argument
from boxlite.cli.present import find_boxes
from boxlite.cli.signals import relay_signals
from boxlite.errors import BoxError
from boxlite.printable import printable
from boxlite.runtime.layout import find_home
from boxlite.store.records import StoredBox
from vmm_ffi.spec import CONSOLE_BYTES, CONSOLE_FILE

INTERVAL = 0.5
"""Seconds between two looks with --follow. The standard library has nothing that tells of a file's growth."""

_LONGEST_LINE = 64 * 1024

_OVER = frozenset({BoxState.CONFIGURED, BoxState.STOPPED, BoxState.FAILED, BoxState.REMOVED})


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the machine ends.")
@click.option("-n", "--tail", "lines", type=click.IntRange(min=0), metavar="N", help="The last N lines alone.")
@home_option
@json_option
@name_argument
def logs(name: str, follow: bool, lines: int | None, home: str | None, as_json: bool) -> int:
    """Print the console of a box's machine: its kernel, its agent, and its engine.

    The output of commands is not in it; `boxlite attach` has that. What could drive a terminal is left out.
    """

    def show(text: str) -> None:
        click.echo(json.dumps({"name": name, "console": text}) if as_json else text, nl=as_json)

    with errors_in_json(as_json):
        box = _find(home, name)
        console = ConsoleFile(console_path(home, box))
        show(last_lines(printable(console.read_on()), lines))
        if follow:
            trio.run(_follow, home, name, console, show)
    return 0


@final
class ConsoleFile:
    """A console's file that grows, and that is begun again when it is full or the machine is started again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._offset = 0

    def read_on(self) -> bytes:
        """What came since the last call; nothing where there is no file yet. Raises OSError."""
        try:
            # Whatever is in its place, opening it must not block.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self._path))
            identity = status.st_dev, status.st_ino
            if identity != self._identity or status.st_size < self._offset:
                self._identity, self._offset = identity, 0
            # A keeper never writes more; of another file, the end is enough.
            self._offset = max(self._offset, status.st_size - 2 * CONSOLE_BYTES)
            data = os.pread(descriptor, 2 * CONSOLE_BYTES, self._offset)
            self._offset += len(data)
            return data
        finally:
            os.close(descriptor)


def console_path(home: str | None, box: StoredBox) -> Path:
    """Where the console of a detached box is kept; raises `BoxError` for another one, which only its runtime has."""
    if not box.options.detached:
        raise BoxError(box.name, "its console is kept by its runtime alone: only detached boxes have it in a file")
    return find_home(home).boxes / box.id / CONSOLE_FILE


def last_lines(text: str, count: int | None) -> str:
    """The last lines of a text, whole; all of them for None."""
    if count is None:
        return text
    lines = text.splitlines(keepends=True)
    return "".join(lines[len(lines) - min(count, len(lines)) :])


async def _follow(home: str | None, name: str, console: ConsoleFile, show: Callable[[str], None]) -> None:
    rest = b""
    async with relay_signals():
        while True:
            # In this order: what was printed before the end is read after it.
            over = not find_boxes(home, [name])[0] or _find(home, name).state in _OVER
            new = console.read_on()
            # Whole lines, since half an escape sequence could not be told from text; but no prompt waits for ever, and
            # a guest that never ends its line fills no memory.
            whole, newline, begun = (rest + new).rpartition(b"\n")
            rest = begun if new and not over and len(begun) < _LONGEST_LINE else b""
            if text := printable(whole + newline + (b"" if rest else begun)):
                show(text)
            if over:
                return
            await trio.sleep(INTERVAL)


def _find(home: str | None, name: str) -> StoredBox:
    found, missing = find_boxes(home, [name])
    for error in missing:
        raise error
    return found[0]
