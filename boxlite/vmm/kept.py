"""Virtual machines that outlive their runtime, as the runtime of the day sees them; see `vmm_ffi.keeper`."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, final

import trio

from boxlite.removal import remove_tree
from boxlite.vmm.console import Console
from boxlite.vmm.identity import ProcessHandle, open_process
from boxlite.vmm.process import VmExit
from vmm_ffi.spec import (
    CONSOLE_BYTES,
    CONSOLE_FILE,
    EXIT_FILE,
    VM_FILE,
    ProcessIdentity,
    VmRecord,
    decode_exit,
    decode_record,
)

KEEPER_SECONDS: Final = 2.0
"""How long a keeper may take to note the end of its machine."""

AGENT: Final = "/agent"
READY: Final = "/ready"
MONITOR: Final = "/qmp"
SHARES: Final = "/fs"
"""A machine's Unix sockets, in a directory of its own."""
STATE: Final = "/state"
"""Beside them: what a machine of libkrun is restored from."""

_DIRECTORY = re.compile(r"[0-9a-f]{12}")

_MAX_FILE = 64 * 1024


@final
class KeptProcess:
    """A kept machine's process, and its keeper's. Made by `watch` alone, valid in that block."""

    def __init__(self, machine: ProcessHandle, keeper: ProcessHandle, directory: Path) -> None:
        self._machine = machine
        self._keeper = keeper
        self._directory = directory
        self._exit: VmExit | None = None
        self._left = False

    @property
    def console(self) -> Console:
        """What its file holds at this moment."""
        console = Console()
        console.feed(_read(self._directory / CONSOLE_FILE, CONSOLE_BYTES))
        return console

    @property
    def ending(self) -> bool:
        """Whether it or its keeper has ended; then both soon have."""
        return self._machine.ended() or self._keeper.ended()

    @property
    def exit(self) -> VmExit | None:
        """How it ended; None while it runs, or its keeper has not noted its end yet."""
        if self._exit is None and not self._left and self._keeper.ended() and self._machine.ended():
            self._exit = read_exit(self._directory, self._machine.identity) or VmExit()
        return self._exit

    async def wait(self) -> VmExit:
        """Returns when it has ended and its keeper has noted that. Cancelling leaves it running."""
        await self._machine.wait_ended()
        with trio.move_on_after(KEEPER_SECONDS):
            await self._keeper.wait_ended()
        if self._exit is None:
            # A keeper that hangs, on a disk that does, has nothing more to say.
            self._keeper.kill()
            self._exit = read_exit(self._directory, self._machine.identity) or VmExit()
        return self._exit

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Sends a signal; nothing happens when it has ended."""
        self._machine.kill(signal_number)

    def leave(self) -> None:
        """For `watch`: what becomes of it from now on is not seen any more."""
        self._left = True


@contextmanager
def watch(record: VmRecord, directory: Path) -> Iterator[KeptProcess]:
    """The kept machine of this record, running or ended, as long as the block lasts, which changes nothing about it.

    Raises ValueError for a machine that is not kept, and OSError where descriptors are used up.
    """
    if record.keeper is None:
        raise ValueError(f"the machine of process {record.process.pid} has no keeper")
    with closing(open_process(record.process)) as machine, closing(open_process(record.keeper)) as keeper:
        process = KeptProcess(machine, keeper, directory)
        try:
            yield process
        finally:
            process.leave()


async def put_down(record: VmRecord, directory: Path, seconds: float) -> VmExit | None:
    """Kills what still runs of a machine, kept or not, and removes its sockets; how it ended, where that is known.

    Waits for its end, `seconds` at most.
    """
    with (
        closing(open_process(record.process)) as machine,
        closing(open_process(record.keeper or record.process)) as keeper,
    ):
        machine.kill()
        with trio.move_on_after(seconds):
            await machine.wait_ended()
            with trio.move_on_after(KEEPER_SECONDS):
                await keeper.wait_ended()
            keeper.kill()
            await keeper.wait_ended()
    remove_sockets(record.sockets)
    return read_exit(directory, record.process)


def remove_sockets(sockets: str) -> None:
    """Removes the directory of the machine's sockets, with all that an attacker may have left in it, and nothing else.

    A directory that is not called as they are keeps what it has besides sockets of that name.
    """
    for name in (AGENT, READY, MONITOR, SHARES):
        path = Path(sockets + name)
        if path.is_socket():
            path.unlink(missing_ok=True)
    try:
        os.rmdir(sockets)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY and _DIRECTORY.fullmatch(os.path.basename(sockets)):
            remove_tree(Path(sockets))


def read_record(directory: Path) -> VmRecord | None:
    """The kept machine that was last started in this directory; None where there is none, or its file is damaged."""
    return decode_record(_read(directory / VM_FILE, _MAX_FILE))


def read_exit(directory: Path, process: ProcessIdentity) -> VmExit | None:
    """How the kept machine of this process ended; None where nobody noted that, or the file is damaged."""
    note = decode_exit(_read(directory / EXIT_FILE, _MAX_FILE))
    if note is None or note.process != process:
        return None
    return VmExit.from_status(note.status, note.cause)


def _read(path: Path, limit: int) -> bytes:
    """The file's last `limit` bytes; nothing where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b""
        return os.pread(descriptor, limit, max(0, status.st_size - limit))
    except OSError:
        return b""
    finally:
        os.close(descriptor)
