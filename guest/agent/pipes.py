"""The pipes between the agent and a command's standard streams."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass

PIPE_SIZE = 256 << 10
"""Bytes that a command can write ahead of the agent."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """Descriptors: the agent's ends, and the command's stdin, stdout and stderr. All are the caller's to close."""

    stdin: int | None
    stdout: int
    stderr: int | None
    command: tuple[int, int, int]


def open_pipes(*, with_input: bool, merge_stderr: bool) -> Pipes:
    """Pipes for one command; its stdin is /dev/null without input. Raises OSError when descriptors run out."""
    with contextlib.ExitStack() as opened:
        stdin = None
        if with_input:
            command_stdin, stdin = _pipe(opened)
        else:
            command_stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, command_stdin)
        stdout, command_stdout = _pipe(opened)
        fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        stderr, command_stderr = None, command_stdout
        if not merge_stderr:
            stderr, command_stderr = _pipe(opened)
        opened.pop_all()
        return Pipes(stdin, stdout, stderr, (command_stdin, command_stdout, command_stderr))


def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC)
    for end in ends:
        opened.callback(os.close, end)
    return ends
