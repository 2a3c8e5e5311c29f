"""Directories and files of the host in a box: what may be asked for, and what of it is there."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Sequence
from typing import Final, Self

import attrs

from boxlite.errors import InvalidOptions, VolumeUnavailable
from vmm_ffi.spec import ShareSpec

MAX_VOLUMES: Final = 64

_KERNELS_OWN: Final = ("/proc", "/sys", "/dev")
"""In a box, what every container has there; of the host, what is no data and reaches its kernel and devices."""

_LONGEST_PATH = 4095
_LONGEST_NAME = 255


def _absolute(source: str | os.PathLike[str]) -> str:
    try:
        text = os.fspath(source)
    except TypeError:
        raise InvalidOptions(f"the source of a volume is a path, not {source!r}") from None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidOptions(f"the source of a volume is a path on this host, not {text!r}")
    return os.path.abspath(text)


def _normal(target: str) -> str:
    if not isinstance(target, str) or not target.startswith("/") or "\0" in target:
        raise InvalidOptions(f"a volume's place in the box is an absolute path such as /data, not {target!r}")
    if ".." in target.split("/"):
        raise InvalidOptions(f"a volume's place in the box has no .. in it, as {target!r} has: write where that leads")
    # POSIX leaves open what two slashes at the beginning mean.
    return posixpath.normpath("/" + target.lstrip("/"))


@attrs.frozen
class Volume:
    """A directory or a file of this host, which a box sees at `target`.

    `source` becomes absolute when this is made; symbolic links in it are followed once, when the box is created. The
    box may change what is there, unless it is `read_only`, which the host itself sees to. What is wrong raises
    `InvalidOptions`.
    """

    source: str = attrs.field(converter=_absolute)
    target: str = attrs.field(converter=_normal)
    read_only: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.read_only, bool):
            raise InvalidOptions(f"read_only of a volume is True or False, not {self.read_only!r}")
        if self.target == "/":
            raise InvalidOptions("a volume cannot be the root of a box: name a directory in it, such as /data")
        if _is_in(self.target, _KERNELS_OWN):
            raise InvalidOptions(
                f"a volume cannot be in {self.target}, which is the kernel's own: choose another place"
            )
        for path in (self.source, self.target):
            size = len(os.fsencode(path))
            if size > _LONGEST_PATH or any(len(os.fsencode(name)) > _LONGEST_NAME for name in path.split("/")):
                raise InvalidOptions(f"a path of {size} bytes, or a name in it, is too long for a volume: {path[:80]}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The volume that `SOURCE:TARGET[:ro]` means, as docker writes it; raises `InvalidOptions`.

        SOURCE begins with / or a dot, so that it is no name of a volume that docker would keep. A path with a colon in
        it can only be given to `Volume` itself.
        """
        source, *rest = text.split(":")
        match rest:
            case [target] | [target, "rw"]:
                read_only = False
            case [target, "ro"]:
                read_only = True
            case [_, mode]:
                raise InvalidOptions(f"the mode of the volume {text!r} is ro or rw, not {mode!r}")
            case _:
                raise InvalidOptions(
                    f"{text!r} is no volume: write SOURCE:TARGET or SOURCE:TARGET:ro, such as ./data:/data"
                )
        if not source.startswith(("/", ".")):
            raise InvalidOptions(
                f"{source!r} is no path, and there are no named volumes: write ./{source} for a directory here"
            )
        return cls(source, target, read_only=read_only)

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.source}:{self.target}" + (":ro" if self.read_only else "")


def check_volumes(volumes: Sequence[Volume]) -> None:
    """Raises `InvalidOptions` where they cannot be together in one box."""
    for volume in volumes:
        if not isinstance(volume, Volume):
            raise InvalidOptions(f"volumes are made with boxlite.Volume(source, target), and {volume!r} is not")
    if len(volumes) > MAX_VOLUMES:
        raise InvalidOptions(f"a box has at most {MAX_VOLUMES} volumes, not {len(volumes)}")
    targets = [volume.target for volume in volumes]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidOptions(f"two volumes cannot both be at {target}")


async def resolve_volumes(box: str, volumes: Sequence[Volume]) -> tuple[Volume, ...]:
    """The same, with the symbolic links on the way to their sources followed.

    Raises `VolumeUnavailable` where one is not there, `InvalidOptions` for what no box may have.
    """
    # Imported here: `boxlite ls` reads the options of boxes, and need not pay for it.
    import trio

    return await trio.to_thread.run_sync(_resolve, box, volumes) if volumes else ()


async def find_volumes(box: str, volumes: Sequence[Volume]) -> None:
    """Looks after volumes that were resolved before; raises `VolumeUnavailable` where one is not there any more.

    Nor where it is reached by a link now: a box that may write to a directory above could have put it there.
    """
    for found, volume in zip(await resolve_volumes(box, volumes), volumes, strict=True):
        if found != volume:
            raise VolumeUnavailable(
                box,
                f"its volume {volume.source} is now reached by a symbolic link, which leads to {found.source}: "
                "remove the link, or create the box again",
            )


def shares_of(volumes: Iterable[Volume]) -> tuple[ShareSpec, ...]:
    """What a machine needs to know of them, in the order of `in_mount_order`."""
    return tuple(
        ShareSpec(share_name(number), volume.source, volume.read_only)
        for number, volume in enumerate(in_mount_order(volumes))
    )


def in_mount_order(volumes: Iterable[Volume]) -> list[Volume]:
    """One that is in another one comes after it."""
    return sorted(volumes, key=lambda volume: volume.target.count("/"))


def share_name(number: int) -> str:
    """The name of a volume's share, by its place in the order."""
    return f"v{number}"


def _resolve(box: str, volumes: Sequence[Volume]) -> tuple[Volume, ...]:
    return tuple(attrs.evolve(volume, source=_resolve_source(box, volume.source)) for volume in volumes)


def _resolve_source(box: str, source: str) -> str:
    try:
        resolved = os.path.realpath(source, strict=True)
        mode = os.stat(resolved).st_mode
    except FileNotFoundError:
        raise VolumeUnavailable(
            box, f"its volume {source} does not exist on this host: create it, or correct the path"
        ) from None
    except OSError as error:
        raise VolumeUnavailable(box, f"its volume {source} cannot be used: {error.strerror}") from error
    if resolved == "/" or _is_in(resolved, _KERNELS_OWN):
        raise InvalidOptions(f"{source} cannot be a volume: it would give a box the whole host, or its devices")
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise InvalidOptions(f"{source} cannot be a volume: it is neither a directory nor a file")
    return resolved


def _is_in(path: str, directories: Iterable[str]) -> bool:
    return any(path == directory or path.startswith(f"{directory}/") for directory in directories)
