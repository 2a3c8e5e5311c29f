"""What simulated guests can execute: a few of BusyBox's commands, and whatever a test adds.

They do what the real ones do, as far as they go, so that the same test runs in a simulated box and in a real one.
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias, final

import trio

from boxlite.testing.clock import GuestClock
from boxlite.testing.identity import Identity
from boxlite.testing.input import InputStream
from boxlite.testing.output import CHUNK, OutputStream


class Killed(Exception):
    """A program ends itself by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@final
class Process:
    """A program's view of itself. `ignored` are the signals that do nothing to it."""

    def __init__(
        self,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        *,
        programs: Programs,
        clock: GuestClock,
        identity: Identity,
        stdin: InputStream | None,
        stdout: OutputStream,
        stderr: OutputStream,
    ) -> None:
        self.argv = argv
        self.env = env
        self.clock = clock
        self.identity = identity
        self.ignored: set[int] = set()
        self._programs = programs
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr

    async def read(self, size: int = CHUNK) -> bytes:
        """The next bytes of the standard input; b"" at its end."""
        await self.clock.wait_running()
        return b"" if self._stdin is None else await self._stdin.read(size)

    async def write(self, data: bytes, *, stderr: bool = False) -> None:
        """Writes all of it; waits while nobody takes it."""
        await self.clock.wait_running()
        await (self._stderr if stderr else self._stdout).write(data)

    async def sleep(self, seconds: float) -> None:
        """By the guest's clock."""
        await self.clock.sleep(seconds)

    async def run(self, argv: tuple[str, ...], *, to_stderr: bool = False) -> int:
        """Executes another program in this one's place and with its streams; 127 where there is none."""
        program = self._programs.get(argv[0])
        if program is None:
            await self.write(f"sh: {argv[0]}: not found\n".encode(), stderr=True)
            return 127
        child = Process(
            argv,
            self.env,
            programs=self._programs,
            clock=self.clock,
            identity=self.identity,
            stdin=self._stdin,
            stdout=self._stderr if to_stderr else self._stdout,
            stderr=self._stderr,
        )
        child.ignored = self.ignored
        return await program(child)


Program: TypeAlias = Callable[[Process], Awaitable[int]]
"""Runs as one process and returns its exit code, 0 to 255. It is cancelled where a signal ends it."""

Programs: TypeAlias = Mapping[str, Program]
"""By the name that is `argv[0]`."""


@lru_cache(maxsize=256)
def numbers(first: int, last: int) -> bytes:
    """What `seq FIRST LAST` prints."""
    return "".join(f"{number}\n" for number in range(first, last + 1)).encode()


async def _true(process: Process) -> int:
    await process.clock.wait_running()
    return 0


async def _false(process: Process) -> int:
    await process.clock.wait_running()
    return 1


async def _echo(process: Process) -> int:
    await process.write(" ".join(process.argv[1:]).encode() + b"\n")
    return 0


async def _cat(process: Process) -> int:
    for path in process.argv[1:]:
        text = process.identity.read(path)
        if text is None:
            await process.write(f"cat: {path}: No such file or directory\n".encode(), stderr=True)
            return 1
        await process.write(text.encode())
    if process.argv[1:]:
        return 0
    while data := await process.read():
        await process.write(data)
    return 0


async def _sleep(process: Process) -> int:
    await process.sleep(float(process.argv[1]))
    return 0


async def _seq(process: Process) -> int:
    first, last = int(process.argv[1]), int(process.argv[2])
    for start in range(first, last + 1, 4096):
        await process.write(numbers(start, min(start + 4095, last)))
    return 0


async def _yes(process: Process) -> int:
    piece, written = b"y\n" * 2048, 0
    while True:
        await process.write(piece)
        written += len(piece)
        # A program that never waited would stop virtual time for everybody. One that is left running for hours, with
        # nobody to read what it writes, would take them all by itself: so it slows down with each MiB, to a second.
        await process.sleep(min(1.0, 0.001 * 2 ** (written >> 20)))


async def _date(process: Process) -> int:
    await process.write(f"{int(process.clock.date())}\n".encode())
    return 0


async def _sh(process: Process) -> int:
    """`sh -c` with simple commands between semicolons, `exit`, `trap '' NAME...`, `kill -N $$` and `>&2`."""
    status = 0
    for command in process.argv[2].split(";"):
        words = shlex.split(command)
        to_stderr = words[-1:] == [">&2"]
        match words[:-1] if to_stderr else words:
            case []:
                pass
            case ["exit", code]:
                return int(code) & 255
            case ["trap", "", *names]:
                process.ignored |= {signal.Signals[f"SIG{name}"] for name in names}
            case ["kill", number, "$$"]:
                raise Killed(-int(number))
            case argv:
                status = await process.run(tuple(argv), to_stderr=to_stderr)
    await trio.lowlevel.checkpoint()
    return status


PROGRAMS: Programs = MappingProxyType(
    {
        "true": _true,
        "false": _false,
        "echo": _echo,
        "cat": _cat,
        "sleep": _sleep,
        "seq": _seq,
        "yes": _yes,
        "date": _date,
        "sh": _sh,
    }
)
"""`true`, `false`, `echo`, `cat` (of its input, or of what `boxlite.testing.identity` has), `sleep N`,
`seq FIRST LAST`, `yes`, `date +%s`, and a very small `sh -c`."""
