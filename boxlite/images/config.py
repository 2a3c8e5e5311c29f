"""What an image says of the processes that run in it: the OCI image configuration (config.md), as Docker reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import attrs

from boxlite.errors import InvalidCommand
from boxlite.images.schema import Object, get_object, get_string, get_string_map, get_strings


@attrs.frozen
class ImageConfig:
    """The defaults of an image's processes; everything may be empty."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """`NAME=value` each."""
    user: str = ""
    """`user`, `user:group`, `uid` or `uid:gid`; empty means root."""
    working_dir: str = "/"
    """Absolute."""
    stop_signal: str = ""
    """A name or a number; empty means SIGTERM."""
    labels: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def from_json(cls, document: Object) -> Self:
        """Reads an image configuration. Raises `ImageDamaged` where it breaks the specification."""
        where = "the image's configuration"
        config = get_object(document, "config", where)
        return cls(
            entrypoint=get_strings(config, "Entrypoint", where),
            cmd=get_strings(config, "Cmd", where),
            # A process could not be told a name without a value.
            env=tuple(entry for entry in get_strings(config, "Env", where) if entry.find("=") > 0),
            user=get_string(config, "User", where, ""),
            # Docker takes a relative one to start at the root.
            working_dir="/" + get_string(config, "WorkingDir", where, "").lstrip("/"),
            stop_signal=get_string(config, "StopSignal", where, ""),
            labels=get_string_map(config, "Labels", where),
        )


def argv_for_run(config: ImageConfig, command: Sequence[str] = ()) -> tuple[str, ...]:
    """What `docker run IMAGE COMMAND...` executes: the image's Entrypoint, then the command, or else the image's Cmd.

    Raises `InvalidCommand` when all are empty.
    """
    argv = (*config.entrypoint, *(command or config.cmd))
    if not argv:
        raise InvalidCommand("the image has neither Entrypoint nor Cmd: say what to run")
    return argv


def environment_for(config: ImageConfig, extra: Mapping[str, str]) -> dict[str, str]:
    """The image's environment with the caller's laid over it, as `docker run --env` and `docker exec --env` do."""
    return dict(entry.split("=", 1) for entry in config.env) | dict(extra)
