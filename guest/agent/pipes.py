"""The pipes between the agent and a command's standard streams."""

from __future__ import annotations

import fcntl
import posix

PIPE_SIZE = 256 << 10
"""Bytes that a command can write ahead of the agent, or the agent ahead of a command."""


class Pipes:
    """Descriptors: the agent's ends, and the command's stdin, stdout and stderr. All are the caller's to close."""

    __slots__ = ("command", "stderr", "stdin", "stdout")

    def __init__(self, stdin: int | None, stdout: int, stderr: int | None, command: tuple[int, int, int]) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.command = command


def open_pipes(*, with_input: bool, merge_stderr: bool) -> Pipes:
    """Pipes for one command; its stdin is /dev/null without input. Raises OSError when descriptors run out."""
    opened: list[int] = []
    try:
        stdin = None
        if with_input:
            command_stdin, stdin = _pipe(opened)
            fcntl.fcntl(stdin, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        else:
            command_stdin = posix.dup(null_device())
            opened.append(command_stdin)
        stdout, command_stdout = _pipe(opened)
        stderr, command_stderr = None, command_stdout
        if not merge_stderr:
            stderr, command_stderr = _pipe(opened)
    except BaseException:
        for descriptor in opened:
            posix.close(descriptor)
        raise
    return Pipes(stdin, stdout, stderr, (command_stdin, command_stdout, command_stderr))


def null_device() -> int:
    """The null device, which is opened once: finding it takes longer than to make both pipes."""
    global _null_device
    if _null_device is None:
        _null_device = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
    return _null_device


_null_device: int | None = None


def _pipe(opened: list[int]) -> tuple[int, int]:
    ends = posix.pipe2(posix.O_CLOEXEC)
    opened += ends
    return ends
