"""A command to run in a box, checked before anything is sent. Pure: no I/O."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import attrs

from boxlite.boxes.options import BoxOptions
from boxlite.boxes.text import Text, check_user, encode, encode_variables
from boxlite.errors import ArgumentsTooLong, InvalidCommand
from boxlite.images.config import ImageConfig, environment_for

MAX_ARGUMENT = 128 * 1024
"""Longest single argument or variable in bytes, its NUL included: MAX_ARG_STRLEN of Linux (execve(2))."""

MAX_ARGUMENTS = 6 * 1024 * 1024
"""Largest sum of arguments and environment in bytes: three quarters of _STK_LIM, the kernel's ceiling (execve(2))."""

MAX_TIMEOUT = 1e9
"""The longest timeout in seconds, more than thirty years; a longer one, also an infinite one, is taken for this."""

_POINTER = 8

_CELLS = [attrs.validators.instance_of(int), attrs.validators.ge(0), attrs.validators.lt(1 << 16)]


@attrs.frozen
class TtySize:
    """The size of a terminal, in character cells."""

    rows: int = attrs.field(default=24, validator=_CELLS)
    columns: int = attrs.field(default=80, validator=_CELLS)


@attrs.frozen
class Command:
    """What `box.exec` and `box.run` start. None stands for what the image's configuration says."""

    argv: tuple[bytes, ...]
    env: Mapping[bytes, bytes]
    cwd: bytes | None = None
    user: str | None = None
    tty: TtySize | None = None
    timeout: float | None = None
    merge_stderr: bool = False

    def resolve(self, config: ImageConfig, box: BoxOptions) -> Command:
        """Fills in what image and box say, as `docker exec` does.

        The command's own variables win over the box's, which win over the image's. A relative `cwd` is below the
        image's. Raises `ArgumentsTooLong` where all variables together are too many.
        """
        env = encode_variables(environment_for(config, box.env)) | dict(self.env)
        _check_size(self.argv, env)
        working_dir = encode("image's working directory", config.working_dir or "/")
        cwd = os.path.normpath(os.path.join(b"/", working_dir, self.cwd or b""))
        user = next(user for user in (self.user, box.user, config.user, "") if user is not None)
        check_user(user)
        return attrs.evolve(self, env=env, cwd=cwd, user=user)


def make_command(
    argv: Sequence[Text],
    *,
    env: Mapping[str, str] | None,
    cwd: Text | None,
    user: str | None,
    tty: TtySize | None,
    timeout: float | None,
    merge_stderr: bool,
) -> Command:
    """Checks a command before anything is started for it; raises `InvalidCommand` or `ArgumentsTooLong`."""
    if isinstance(argv, str | bytes | os.PathLike):
        raise InvalidCommand(f"a command is a sequence of arguments, not one string: write ['sh', '-c', {argv!r}]")
    arguments = tuple(encode("argument", argument) for argument in argv)
    if not arguments:
        raise InvalidCommand("the command is empty: give at least the program's name")
    if not arguments[0]:
        raise InvalidCommand("the program's name is empty")
    if timeout is not None and not timeout > 0:
        raise InvalidCommand(f"timeout must be a positive number of seconds, not {timeout!r}")
    if user is not None:
        check_user(user)
    variables = encode_variables(env or {})
    _check_size(arguments, variables)
    return Command(
        arguments,
        variables,
        cwd=None if cwd is None else encode("working directory", cwd),
        user=user,
        tty=tty,
        timeout=None if timeout is None else min(float(timeout), MAX_TIMEOUT),
        merge_stderr=merge_stderr,
    )


def _check_size(argv: tuple[bytes, ...], env: Mapping[bytes, bytes]) -> None:
    sizes = [len(text) + 1 for text in argv] + [len(name) + len(value) + 2 for name, value in env.items()]
    if max(sizes) > MAX_ARGUMENT:
        raise ArgumentsTooLong(
            f"one argument or variable has {max(sizes)} bytes and Linux takes {MAX_ARGUMENT}: pass large data as input"
        )
    total = sum(sizes) + _POINTER * len(sizes)
    if total > MAX_ARGUMENTS:
        raise ArgumentsTooLong(
            f"arguments and environment have {total} bytes and Linux takes {MAX_ARGUMENTS}: pass large data as input"
        )
