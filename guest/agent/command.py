"""What the host asks to be executed, checked: pure."""

from __future__ import annotations

from guest.agent.container.messages import Spawn, SpawnError
from guest.agent.files import fsdecode
from proto.lean.messages import StartFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proto.lean.messages import ExecStart

MAX_ARGUMENTS = 2 << 20
"""Bytes of arguments and environment that the kernel takes: a quarter of the stack's limit (execve(2))."""

_LONGEST_ID = 64
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_MAX_USER = 256
_MAX_TERMINAL = 65535

_REASONS = {
    SpawnError.WORKDIR: StartFailure.WORKDIR,
    SpawnError.USER: StartFailure.USER,
    SpawnError.TOO_LONG: StartFailure.TOO_LONG,
    SpawnError.RESOURCES: StartFailure.RESOURCES,
}


class Refused(Exception):
    """The command was not started, for a reason that the host is told: one of `StartFailure`."""

    def __init__(self, reason: int, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    @classmethod
    def by_init(cls, error: str, message: str) -> Refused:
        """The refusal that stands for what the container's init said."""
        return cls(_REASONS[error], message)


def spawn_request(start: ExecStart, key: int) -> Spawn:
    """The request for the container's init; raises `Refused` where `start` breaks a rule of the protocol."""
    if not 0 < len(start.execution_id) <= _LONGEST_ID or not set(start.execution_id) <= _LETTERS:
        raise _invalid("an execution's id is 1 to 64 characters of [A-Za-z0-9_-]")
    if not start.argv or not start.argv[0]:
        raise _invalid("the command is empty")
    if not start.cwd.startswith(b"/"):
        raise _invalid(f"the working directory is not an absolute path: {fsdecode(start.cwd)!r}")
    for variable in start.env:
        if variable.find(b"=") < 1:
            raise _invalid(f"not NAME=value in the environment: {fsdecode(variable[:80])!r}")
    for text in (*start.argv, *start.env, start.cwd, start.user.encode(errors="surrogatepass")):
        if b"\0" in text:
            raise _invalid("arguments, environment, working directory and user cannot have a NUL in them")
    if len(start.user) > _MAX_USER:
        raise _invalid(f"the user's name has more than {_MAX_USER} characters")
    size = start.tty
    if size is not None and max(size.rows, size.columns) > _MAX_TERMINAL:
        raise _invalid(f"a terminal has at most {_MAX_TERMINAL} rows and columns")
    if sum(len(text) + 1 for text in (*start.argv, *start.env)) > MAX_ARGUMENTS:
        raise Refused(StartFailure.TOO_LONG, f"arguments and environment have more than {MAX_ARGUMENTS} bytes")
    return Spawn(
        key=key,
        argv=list(start.argv),
        env=list(start.env),
        cwd=start.cwd,
        user=start.user,
        terminal=size is not None,
        rows=size.rows if size is not None else 0,
        columns=size.columns if size is not None else 0,
        stop_group_on_exit=start.stop_group_on_exit,
    )


def _invalid(message: str) -> Refused:
    return Refused(StartFailure.INVALID, message)
