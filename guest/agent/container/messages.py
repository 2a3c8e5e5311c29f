"""What the agent and the container's init tell each other over their socket.

Init is inside the container's namespaces and may be taken over by what runs there; so both sides check what they read,
and nothing that is decoded here can run code.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any


class MalformedMessage(ValueError):
    """The bytes are no message."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Build the container. `image` and `scratch` are directories, `root` is an empty one to mount on."""

    image: str
    scratch: str
    root: str
    hostname: str
    machine_id: str


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a command, with its standard streams as ancillary data: stdin, stdout, stderr; none for a terminal.

    Bytes are text by the file system's encoding, as `os.fsdecode` gives them. `key` is the agent's name for the
    command, so that no message can be about a recycled pid.
    """

    key: int
    argv: list[str]
    env: list[str]
    cwd: str
    user: str
    rows: int
    columns: int
    terminal: bool
    stop_group_on_exit: bool


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to a command's process group."""

    key: int
    number: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send SIGTERM to every process, and end when none is left."""


@dataclass(frozen=True, slots=True)
class Warm:
    """Do once what a command's start takes, without executing anything of the image."""


@dataclass(frozen=True, slots=True)
class Rename:
    """Write the files that hold the container's names anew."""

    hostname: str
    machine_id: str


@dataclass(frozen=True, slots=True)
class Forked:
    """The process that becomes the container's init has this pid, as the agent sees it."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The container is built."""


@dataclass(frozen=True, slots=True)
class SetupFailed:
    """The container could not be built."""

    error: str


@dataclass(frozen=True, slots=True)
class Spawned:
    """The command runs, as process `pid` of the container; a terminal's master side is ancillary data."""

    key: int
    pid: int


class SpawnError(enum.StrEnum):
    """Why a command could not be started."""

    NOT_FOUND = "not found"
    NOT_EXECUTABLE = "not executable"
    WORKDIR = "workdir"
    USER = "user"
    TOO_LONG = "too long"
    RESOURCES = "resources"


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The command could not be started."""

    key: int
    error: SpawnError
    message: str


@dataclass(frozen=True, slots=True)
class Signalled:
    """Answers `Signal`: whether the group still had a process."""

    key: int
    delivered: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers `Warm` and `Rename`; `error` is empty where it was done."""

    error: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The command's first process has ended; `status` is as os.waitpid gives it."""

    key: int
    status: int


@dataclass(frozen=True, slots=True)
class GroupGone:
    """No process is left in the command's group. Comes once, after `Exited`."""

    key: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Init itself has ended, and every process of the container with it; `status` is as os.waitpid gives it."""

    status: int


Request = Setup | Spawn | Signal | Terminate | Warm | Rename
Report = Forked | Ready | SetupFailed | Spawned | SpawnFailed | Signalled | Answered | Exited | GroupGone | Ended

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Setup, Spawn, Signal, Terminate, Warm, Rename),
        *(Forked, Ready, SetupFailed, Spawned, SpawnFailed, Signalled, Answered, Exited, GroupGone, Ended),
    )
}


def encode(message: Request | Report) -> bytes:
    """The bytes of one message."""
    return json.dumps([type(message).__name__, asdict(message)]).encode()


def decode(data: bytes) -> Request | Report:
    """The message that the bytes stand for; raises `MalformedMessage`."""
    try:
        name, values = json.loads(data)
        kind = _KINDS[name]
        for field in fields(kind):
            if not _CHECKS[str(field.type)](values[field.name]):
                raise TypeError(f"{field.name} is no {field.type}")
        if kind is SpawnFailed:
            values["error"] = SpawnError(values["error"])
        message: Request | Report = kind(**values)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedMessage(f"{error!r} in {data[:200]!r}") from None
    return message


# By the annotations of the messages' fields, which are text at run time.
_CHECKS: dict[str, Callable[[object], bool]] = {
    "int": lambda value: type(value) is int,
    "bool": lambda value: type(value) is bool,
    "str": lambda value: type(value) is str,
    "list[str]": lambda value: isinstance(value, list) and all(type(item) is str for item in value),
    "SpawnError": lambda value: type(value) is str,
}
