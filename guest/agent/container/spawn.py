"""Starts one command in the container, as the process that is its init."""

from __future__ import annotations

import _stat as stat
import errno
import fcntl
import posix
import sys

from guest.agent import syscalls
from guest.agent.container.messages import SpawnError
from guest.agent.container.users import UnknownUser
from guest.agent.files import fsdecode, fsencode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Sequence
    from typing import Any

    from guest.agent.container.messages import Spawn
    from guest.agent.container.users import Identity, Users

    Actions = list[tuple[Any, ...]]
else:
    import _signal as signal

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's PATH for images that set none."""

# From asm-generic/ioctls.h: a terminal's size; unlock its slave side, and open it.
_TIOCSWINSZ = 0x5414
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441

_RESOURCE_ERRORS = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC}
_MISSING = {errno.ENOENT, errno.ENOTDIR}

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class CannotSpawn(Exception):
    """The command could not be started; `error` says of which kind the reason is (`SpawnError`)."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


def spawn(request: Spawn, streams: Sequence[int], users: Users) -> tuple[int, int | None]:
    """Executes the command in a session and process group of its own; raises `CannotSpawn`.

    Returns its pid, and the master side of its terminal, if it has one. Only the three streams are inherited: every
    other descriptor of this process is close-on-exec. This process's own directory becomes the command's.
    """
    try:
        identity = users.find(request.user)
    except UnknownUser as error:
        raise CannotSpawn(SpawnError.USER, str(error)) from None
    try:
        posix.chdir(request.cwd)
    except OSError as error:
        path = fsdecode(request.cwd)
        raise CannotSpawn(SpawnError.WORKDIR, f"working directory {path!r}: {error.strerror}") from None
    if not request.terminal:
        _hand_over(streams, identity.uid)
        return execute(request, identity, [(posix.POSIX_SPAWN_DUP2, fd, at) for at, fd in enumerate(streams)]), None
    try:
        master, slave = _open_terminal(request, identity)
    except OSError as error:
        raise CannotSpawn(SpawnError.RESOURCES, f"no terminal for the command: {error.strerror}") from None
    try:
        return execute(request, identity, _terminal_actions(slave)), master
    except BaseException:
        posix.close(master)
        raise
    finally:
        posix.close(slave)


def environment(request: Spawn, home: str, hostname: str) -> dict[bytes, bytes]:
    """The command's environment: what was asked for, over what Docker adds."""
    defaults = {b"PATH": DEFAULT_PATH, b"HOSTNAME": fsencode(hostname), b"HOME": fsencode(home)}
    if request.terminal:
        defaults[b"TERM"] = b"xterm"
    wanted = (variable.partition(b"=") for variable in request.env)
    return defaults | {name: value for name, _, value in wanted}


def execute(request: Spawn, identity: Identity, actions: Actions) -> int:
    """Executes the command with these ids, after what is to be done with its descriptors; raises `CannotSpawn`."""
    variables = environment(request, identity.home, posix.uname().nodename)
    _set_groups(identity.groups)
    if (identity.uid, identity.gid) == (0, 0):
        return _spawn_first(request.argv, variables, actions)
    try:
        _become(identity)
        return _spawn_first(request.argv, variables, actions)
    finally:
        _become_root()


def _set_groups(groups: tuple[int, ...]) -> None:
    global _groups
    if groups != _groups:
        posix.setgroups(groups)
        _groups = groups


_groups: tuple[int, ...] | None = None
"""Of this process, since the last command's start."""


def _spawn_first(argv: list[bytes], variables: dict[bytes, bytes], actions: Actions) -> int:
    """Executes the first program of the name that can be; which errors lead on to the next one is in execvp(3)."""
    failure = OSError(errno.ENOENT, posix.strerror(errno.ENOENT))
    for program in _programs(argv[0], variables[b"PATH"]):
        try:
            # The child has this process's memory until it executes (CLONE_VFORK): several times faster than a fork.
            return posix.posix_spawn(
                program, argv, variables, file_actions=actions, setsid=True, setsigdef=_IGNORED_BY_PYTHON
            )
        except OSError as error:
            if error.errno == errno.EACCES or (error.errno in _MISSING and failure.errno != errno.EACCES):
                failure = error
            elif error.errno not in _MISSING:
                raise _explain(error, argv[0]) from None
    raise _explain(failure, argv[0])


def _programs(name: bytes, path: bytes) -> Iterator[bytes]:
    """Where the program may be: every attempt to execute one is a process."""
    if b"/" in name:
        yield name
        return
    for directory in path.split(b":"):
        place = directory + b"/" + name if directory else name  # An empty one is the current directory.
        if posix.access(place, posix.F_OK):
            yield place


def _become(identity: Identity) -> None:
    """Takes the identity for the child to inherit. Root stays the saved user, so that this process can go back.

    A child has no way back: executing a program forgets the saved ids, and with them every capability (execve(2)).
    """
    posix.setresgid(identity.gid, identity.gid, 0)
    posix.setresuid(identity.uid, identity.uid, 0)


def _become_root() -> None:
    posix.setresuid(0, 0, 0)
    posix.setresgid(0, 0, 0)
    syscalls.end_with_parent()


def _hand_over(streams: Sequence[int], uid: int) -> None:
    # So that the command can open /dev/stdout: that opens the pipe anew, by its owner and mode. Docker does so too.
    for stream in streams if uid else ():
        if stat.S_ISFIFO(posix.fstat(stream).st_mode):
            posix.fchown(stream, uid, -1)


def _explain(error: OSError, program: bytes) -> CannotSpawn:
    name = fsdecode(program)
    if error.errno in _RESOURCE_ERRORS:
        return CannotSpawn(SpawnError.RESOURCES, f"cannot start a process: {error.strerror}")
    if error.errno == errno.E2BIG:
        return CannotSpawn(SpawnError.TOO_LONG, "arguments and environment are longer than the kernel takes")
    if error.errno in _MISSING and "/" not in name:
        return CannotSpawn(SpawnError.NOT_FOUND, f"{name}: command not found")
    kind = SpawnError.NOT_FOUND if error.errno in _MISSING else SpawnError.NOT_EXECUTABLE
    return CannotSpawn(kind, f"{name}: {error.strerror}")


def _open_terminal(request: Spawn, identity: Identity) -> tuple[int, int]:
    master = posix.open("/dev/pts/ptmx", posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
    try:
        size = (request.rows, request.columns, 0, 0)
        fcntl.ioctl(master, _TIOCSPTLCK, bytes(4))
        fcntl.ioctl(master, _TIOCSWINSZ, b"".join([value.to_bytes(2, sys.byteorder) for value in size]))
        slave: int = fcntl.ioctl(master, _TIOCGPTPEER, posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
    except BaseException:
        posix.close(master)
        raise
    posix.fchown(slave, identity.uid, -1)
    return master, slave


def _terminal_actions(slave: int) -> Actions:
    # The first terminal that a session's leader opens by name becomes its controlling one (tty(4)).
    by_name = (posix.POSIX_SPAWN_OPEN, 0, f"/proc/self/fd/{slave}", posix.O_RDWR, 0)
    return [by_name, (posix.POSIX_SPAWN_DUP2, 0, 1), (posix.POSIX_SPAWN_DUP2, 0, 2)]
