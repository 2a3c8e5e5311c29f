"""What the agent and the container's init tell each other over their socket.

A message is the name of its kind and its fields, with a zero byte between them: no command can be started with one in
its arguments or its environment. Init is inside the container's namespaces and may be taken over by what runs there; so
both sides check what they read, and nothing that is decoded here can run code.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, ClassVar


class MalformedMessage(ValueError):
    """The bytes are no message."""


class Message:
    """A message; equal to another one of its kind with the same values.

    `__slots__` has the fields in their order, and `FORMAT` a letter for each: i a number from 0 on, b a bool,
    s text, y bytes, l a list of bytes, e one of `SpawnError`.
    """

    __slots__: tuple[str, ...] = ()
    FORMAT: ClassVar[str] = ""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._values()))})"

    def _values(self) -> list[object]:
        return [getattr(self, name) for name in self.__slots__]


class Setup(Message):
    """Build the container. `image` and `scratch` are directories, `root` is an empty one to mount on.

    `volumes` has what `guest.agent.container.volumes.encode_volume` gives for each.
    """

    __slots__ = __match_args__ = ("image", "scratch", "root", "hostname", "machine_id", "volumes")
    FORMAT = "sssssl"

    def __init__(
        self, image: str, scratch: str, root: str, hostname: str, machine_id: str, volumes: list[bytes]
    ) -> None:
        self.image = image
        self.scratch = scratch
        self.root = root
        self.hostname = hostname
        self.machine_id = machine_id
        self.volumes = volumes


class Spawn(Message):
    """Start a command, with its standard streams as ancillary data: stdin, stdout, stderr; none for a terminal.

    `key` is the agent's name for the command, so that no message can be about a recycled pid.
    """

    __slots__ = __match_args__ = (
        "key",
        "argv",
        "env",
        "cwd",
        "user",
        "rows",
        "columns",
        "terminal",
        "stop_group_on_exit",
    )
    FORMAT = "illysiibb"

    def __init__(
        self,
        key: int,
        argv: list[bytes],
        env: list[bytes],
        cwd: bytes,
        user: str,
        rows: int,
        columns: int,
        terminal: bool,
        stop_group_on_exit: bool,
    ) -> None:
        self.key = key
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.user = user
        self.rows = rows
        self.columns = columns
        self.terminal = terminal
        self.stop_group_on_exit = stop_group_on_exit


class Signal(Message):
    """Send a signal to a command's process group."""

    __slots__ = __match_args__ = ("key", "number")
    FORMAT = "ii"

    def __init__(self, key: int, number: int) -> None:
        self.key = key
        self.number = number


class Terminate(Message):
    """Send SIGTERM to every process, and end when none is left."""

    __slots__ = ()


class Warm(Message):
    """Do once what a command's start takes, without executing anything of the image."""

    __slots__ = ()


class Rename(Message):
    """Write the files that hold the container's names anew."""

    __slots__ = __match_args__ = ("hostname", "machine_id")
    FORMAT = "ss"

    def __init__(self, hostname: str, machine_id: str) -> None:
        self.hostname = hostname
        self.machine_id = machine_id


class Forked(Message):
    """The process that becomes the container's init has this pid, as the agent sees it."""

    __slots__ = __match_args__ = ("pid",)
    FORMAT = "i"

    def __init__(self, pid: int) -> None:
        self.pid = pid


class Ready(Message):
    """The container is built."""

    __slots__ = ()


class SetupFailed(Message):
    """The container could not be built."""

    __slots__ = __match_args__ = ("error",)
    FORMAT = "s"

    def __init__(self, error: str) -> None:
        self.error = error


class Spawned(Message):
    """The command runs, as process `pid` of the container; a terminal's master side is ancillary data."""

    __slots__ = __match_args__ = ("key", "pid")
    FORMAT = "ii"

    def __init__(self, key: int, pid: int) -> None:
        self.key = key
        self.pid = pid


class SpawnError:
    """Why a command could not be started: one of these texts."""

    NOT_FOUND = "not found"
    NOT_EXECUTABLE = "not executable"
    WORKDIR = "workdir"
    USER = "user"
    TOO_LONG = "too long"
    RESOURCES = "resources"


SPAWN_ERRORS = (
    *(SpawnError.NOT_FOUND, SpawnError.NOT_EXECUTABLE, SpawnError.WORKDIR),
    *(SpawnError.USER, SpawnError.TOO_LONG, SpawnError.RESOURCES),
)


class SpawnFailed(Message):
    """The command could not be started, for a reason of `SpawnError`."""

    __slots__ = __match_args__ = ("key", "error", "message")
    FORMAT = "ies"

    def __init__(self, key: int, error: str, message: str) -> None:
        self.key = key
        self.error = error
        self.message = message


class Signalled(Message):
    """Answers `Signal`: whether the group still had a process."""

    __slots__ = __match_args__ = ("key", "delivered")
    FORMAT = "ib"

    def __init__(self, key: int, delivered: bool) -> None:
        self.key = key
        self.delivered = delivered


class Answered(Message):
    """Answers `Warm` and `Rename`; `error` is empty where it was done."""

    __slots__ = __match_args__ = ("error",)
    FORMAT = "s"

    def __init__(self, error: str) -> None:
        self.error = error


class Exited(Message):
    """The command's first process has ended; `status` is as os.waitpid gives it.

    `group_gone`: no process was left in the command's group, and no `GroupGone` follows.
    """

    __slots__ = __match_args__ = ("key", "status", "group_gone")
    FORMAT = "iib"

    def __init__(self, key: int, status: int, group_gone: bool) -> None:
        self.key = key
        self.status = status
        self.group_gone = group_gone


class GroupGone(Message):
    """No process is left in the command's group. Comes once, some time after an `Exited` that did not say so."""

    __slots__ = __match_args__ = ("key",)
    FORMAT = "i"

    def __init__(self, key: int) -> None:
        self.key = key


class Ended(Message):
    """Init itself has ended, and every process of the container with it; `status` is as os.waitpid gives it."""

    __slots__ = __match_args__ = ("status",)
    FORMAT = "i"

    def __init__(self, status: int) -> None:
        self.status = status


Request = Setup | Spawn | Signal | Terminate | Warm | Rename
Report = Forked | Ready | SetupFailed | Spawned | SpawnFailed | Signalled | Answered | Exited | GroupGone | Ended

_KINDS = {kind.__name__.encode(): kind for kind in (Request | Report).__args__}

_MAX_DIGITS = 20


def encode(message: Request | Report) -> bytes:
    """The bytes that stand for a message; raises ValueError for a zero byte in a field."""
    parts = [type(message).__name__.encode()]
    for letter, name in zip(message.FORMAT, message.__slots__, strict=True):
        value = getattr(message, name)
        if letter in "ib":
            parts.append(b"%d" % value)
        elif letter == "l":
            parts.append(b"%d" % len(value))
            parts += value
        else:
            parts.append(value if letter == "y" else value.encode(errors="surrogateescape"))
    data = b"\0".join(parts)
    if data.count(b"\0") != len(parts) - 1:
        raise ValueError(f"a zero byte in {message!r}")
    return data


def decode(data: bytes) -> Request | Report:
    """The message that the bytes stand for; raises `MalformedMessage`."""
    parts = iter(data.split(b"\0"))
    kind = _KINDS.get(next(parts))
    try:
        if kind is None:
            raise ValueError("no such kind")
        message: Request | Report = kind(*[_field(letter, parts) for letter in kind.FORMAT])
        if next(parts, None) is not None:
            raise ValueError("more fields than it has")
    except (ValueError, StopIteration) as error:
        raise MalformedMessage(f"{error!r} in {data[:200]!r}") from None
    return message


def _field(letter: str, parts: Iterator[bytes]) -> Any:
    part = next(parts)
    if letter == "y":
        return part
    if letter == "i":
        return _number(part)
    if letter == "l":
        return [next(parts) for _ in range(_number(part))]
    if letter == "b":
        if part not in (b"0", b"1"):
            raise ValueError("no bool")
        return part == b"1"
    text = part.decode(errors="surrogateescape")
    if letter == "e" and text not in SPAWN_ERRORS:
        raise ValueError("no SpawnError")
    return text


def _number(part: bytes) -> int:
    if not part.isdigit() or len(part) > _MAX_DIGITS:
        raise ValueError("no number")
    return int(part)
