"""Starts one command in the container, as the process that is its init."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import subprocess
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from guest.agent.container.messages import Spawn, SpawnError
from guest.agent.container.users import Identity, UnknownUser, find_identity, read_database

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's PATH for images that set none."""

# From asm-generic/ioctls.h: unlock a terminal's slave side, and open it.
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441

_RESOURCE_ERRORS = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC}
_MISSING = {errno.ENOENT, errno.ENOTDIR}


class CannotSpawn(Exception):
    """The command could not be started; `error` says of which kind the reason is."""

    def __init__(self, error: SpawnError, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


@dataclass(frozen=True, slots=True)
class Started:
    """A running command. `terminal` is the master side of its terminal, if it has one."""

    process: subprocess.Popen[bytes]
    terminal: int | None


def spawn(request: Spawn, streams: Sequence[int]) -> Started:
    """Executes the command in a session and process group of its own; raises `CannotSpawn`.

    Only the three streams are inherited: every other descriptor of this process is close-on-exec.
    """
    identity = _identity(request.user)
    _check_directory(request.cwd)
    if not request.terminal:
        return Started(execute(request, identity, streams, None), None)
    try:
        master, slave = _open_terminal(request, identity)
    except OSError as error:
        raise CannotSpawn(SpawnError.RESOURCES, f"no terminal for the command: {error.strerror}") from None
    try:
        return Started(execute(request, identity, (slave, slave, slave), _take_terminal), master)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)


def environment(request: Spawn, home: str, hostname: str) -> dict[bytes, bytes]:
    """The command's environment: what was asked for, over what Docker adds."""
    defaults = {b"PATH": DEFAULT_PATH, b"HOSTNAME": os.fsencode(hostname), b"HOME": os.fsencode(home)}
    if request.terminal:
        defaults[b"TERM"] = b"xterm"
    wanted = (os.fsencode(variable).partition(b"=") for variable in request.env)
    return defaults | {name: value for name, _, value in wanted}


def _identity(user: str) -> Identity:
    try:
        return find_identity(user, read_database("/etc/passwd"), read_database("/etc/group"))
    except UnknownUser as error:
        raise CannotSpawn(SpawnError.USER, str(error)) from None


def _check_directory(path: str) -> None:
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            return
        reason = os.strerror(errno.ENOTDIR)
    except OSError as error:
        reason = error.strerror or str(error)
    raise CannotSpawn(SpawnError.WORKDIR, f"working directory {path!r}: {reason}")


def execute(
    request: Spawn, identity: Identity, streams: Sequence[int], in_child: Callable[[], None] | None
) -> subprocess.Popen[bytes]:
    """Executes the command with these ids and streams, and `in_child` before it; raises `CannotSpawn`."""
    changes_ids = (identity.uid, identity.gid) != (0, 0)
    if changes_ids:
        _hand_over(streams, identity.uid)
    else:
        # Nothing to change in the child, so that subprocess uses vfork, which is several times faster.
        os.setgroups(identity.groups)
    try:
        return subprocess.Popen(
            [os.fsencode(argument) for argument in request.argv],
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            cwd=os.fsencode(request.cwd),
            env=environment(request, identity.home, os.uname().nodename),
            start_new_session=True,
            umask=0o022,
            close_fds=False,
            preexec_fn=in_child,
            user=identity.uid if changes_ids else None,
            group=identity.gid if changes_ids else None,
            extra_groups=identity.groups if changes_ids else None,
        )
    except OSError as error:
        raise _explain(error, request) from None
    except subprocess.SubprocessError as error:
        raise CannotSpawn(SpawnError.RESOURCES, f"cannot prepare the process: {error}") from None


def _hand_over(streams: Sequence[int], uid: int) -> None:
    # So that the command can open /dev/stdout: that opens the pipe anew, by its owner and mode. Docker does so too.
    for stream in streams:
        if stat.S_ISFIFO(os.fstat(stream).st_mode):
            os.fchown(stream, uid, -1)


def _explain(error: OSError, request: Spawn) -> CannotSpawn:
    name = request.argv[0]
    if error.errno in _RESOURCE_ERRORS:
        return CannotSpawn(SpawnError.RESOURCES, f"cannot start a process: {error.strerror}")
    if error.errno == errno.E2BIG:
        return CannotSpawn(SpawnError.TOO_LONG, "arguments and environment are longer than the kernel takes")
    if error.filename == os.fsencode(request.cwd) and error.filename != os.fsencode(name):
        return CannotSpawn(SpawnError.WORKDIR, f"working directory {request.cwd!r}: {error.strerror}")
    if error.errno in _MISSING and "/" not in name:
        return CannotSpawn(SpawnError.NOT_FOUND, f"{name}: command not found")
    kind = SpawnError.NOT_FOUND if error.errno in _MISSING else SpawnError.NOT_EXECUTABLE
    return CannotSpawn(kind, f"{name}: {error.strerror}")


def _open_terminal(request: Spawn, identity: Identity) -> tuple[int, int]:
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", request.rows, request.columns, 0, 0))
        slave: int = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    os.fchown(slave, identity.uid, -1)
    return master, slave


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
