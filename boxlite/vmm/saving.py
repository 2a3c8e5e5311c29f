"""How a machine of libkrun is saved, and what of that a restored one gets.

libkrun listens on a Unix socket for commands, one a connection: a line comes in, and a line goes out. SAVE makes a
directory with three files in it, of which the large one is the machine's memory. The others are kept in one file, as
the state of QEMU's machines is: an archive (zip) of both.

Only the library of the smolmachines wheel has this; its own program (github.com/smol-machines/smolvm) shows how.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Final

import attrs
import trio

from boxlite.portal.transport import ServedSocket
from boxlite.printable import printable
from boxlite.vmm.engine import SnapshotDamaged
from boxlite.vmm.migration import MAX_STATE, read_state, write_new

MEMORY: Final = "memory.bin"
STATE_FILES: Final = ("checkpoint.bin", "manifest.bin")

_SAVED = "saved"
_MAX_ANSWER = 4096
_SAID = 500
_OS_ERROR = re.compile(rb"\(os error (\d{1,3})\)")


@attrs.frozen
class Saving:
    """How a machine that runs can be saved."""

    socket: Path
    """On which libkrun takes commands."""
    directory: Path
    """In which the machine's process writes, and nothing is yet."""
    memory: Path
    """Where its memory is to be, on the same file system."""
    memory_bytes: int

    async def save(self, state: Path) -> None:
        """Stops the machine for good, and moves what it held to `memory` and `state`; raises OSError, without `state`.

        What the machine's process has written is believed no more than a guest: it is what it should be, or an error.
        """
        answer = await _command(self.socket, b"SAVE %b\n" % os.fsencode(self.directory / _SAVED))
        if not answer.startswith(b"OK "):
            raise OSError(
                _cause(answer), f"libkrun did not save the machine: {printable(answer[:_SAID]) or 'it hung up'}"
            )
        self._collect(state)

    def _collect(self, state: Path) -> None:
        saved = os.open(self.directory / _SAVED, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w") as members:
                for name in STATE_FILES:
                    members.writestr(name, _read(name, saved))
            if archive.tell() > MAX_STATE:
                raise OSError(errno.EFBIG, f"libkrun saved a state of more than {MAX_STATE} bytes")
            # Out of reach first, and looked at then.
            os.rename(MEMORY, self.memory, src_dir_fd=saved)
        finally:
            os.close(saved)
        status = self.memory.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size != self.memory_bytes:
            raise OSError(errno.EINVAL, f"libkrun saved no memory of {self.memory_bytes} bytes: {self.memory}")
        if status.st_uid != os.geteuid():
            os.chown(self.memory, os.geteuid(), os.getegid(), follow_symlinks=False)
        self.memory.chmod(0o600)
        write_new(state, archive.getvalue())


def unpack_state(state: Path, directory: Path) -> None:
    """Makes a directory with what libkrun restores a machine from, for its process to read.

    Raises `SnapshotDamaged`, and OSError where files cannot be read or made; then leaves nothing.
    """
    content = read_state(state)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            if tuple(members.namelist()) != STATE_FILES or sum(i.file_size for i in members.infolist()) > MAX_STATE:
                raise zipfile.BadZipFile("it has other files in it")
            files = {name: members.read(name) for name in STATE_FILES}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise SnapshotDamaged(
            errno.EINVAL, f"{state} is damaged, so the machine cannot be restored: {error}"
        ) from error
    directory.mkdir()
    try:
        # Of the machine's user, whoever that is and whatever the umask; the way to it is that user's alone.
        directory.chmod(0o755)
        for name, data in files.items():
            write_new(directory / name, data)
            (directory / name).chmod(0o444)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _cause(answer: bytes) -> int:
    """Where the system has refused something, the answer ends with its error's number, as Rust prints it."""
    found = _OS_ERROR.search(answer)
    return errno.EIO if found is None else int(found[1])


async def _command(socket: Path, line: bytes) -> bytes:
    """The answer, without its end of line; some of it, or nothing, where libkrun hangs up. Raises OSError."""
    connection = trio.socket.from_stdlib_socket(await ServedSocket(socket).accept())
    with connection:
        unsent = memoryview(line)
        while unsent:
            unsent = unsent[await connection.send(unsent) :]
        answer = b""
        while b"\n" not in answer and len(answer) < _MAX_ANSWER and (piece := await connection.recv(_MAX_ANSWER)):
            answer += piece
    return answer.partition(b"\n")[0]


def _read(name: str, directory: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, "rb", buffering=0) as file:
        content = file.read(MAX_STATE + 1) or b""
    if len(content) > MAX_STATE:
        raise OSError(errno.EFBIG, f"libkrun saved a {name} of more than {MAX_STATE} bytes")
    return content
