"""A bare machine as a script sees it, whatever engine runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from benchmarks.bare.guest import CHUNK, READY
from boxlite.vmm.engines import EngineChoice

T = TypeVar("T")

MEMORY_MIB = 256
"""As much as a box has by default."""

END_SECONDS = 10.0
"""How long the process of a machine that was killed has to be gone."""

_READ = 256 * 1024


@attrs.frozen
class BareParts:
    """What a bare machine is made of. Those of `disks` are read-only, the first one is its root."""

    engine: EngineChoice
    kernel: Path
    disks: tuple[Path, ...]
    kernel_arguments: tuple[str, ...] = ()


class BareMachine:
    """A machine that runs, with a script in it that answers lines; `benchmarks.bare.engines` makes it."""

    def __init__(self, process: trio.Process, port: trio.abc.Stream, log: Path) -> None:
        """For the engines; what the process itself says is in `log`."""
        self.process = process
        self._port = port
        self._log = log

    async def wait_ready(self) -> None:
        """Takes the script's first line."""
        assert await self.hear() == READY

    async def ask(self, command: str) -> bytes:
        """Sends the script a line; gives the first bytes of what comes for it."""
        await self._port.send_all(command.encode() + b"\n")
        return await self.hear()

    async def hear(self) -> bytes:
        """The next bytes that the script sends."""
        heard = await self._port.receive_some(_READ)
        if not heard:
            raise self.lost()
        return bytes(heard)

    def lost(self) -> ConnectionResetError:
        """What to raise where it has hung up, or ended."""
        said = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
        return ConnectionResetError(f"the bare machine has hung up{f', and said last: {said}' if said else ''}")

    async def stream_out(self, size: int) -> None:
        """Takes so many bytes, which are whole pieces of `CHUNK`, from `dd` in the guest."""
        received = len(await self.ask(f"out {size // CHUNK}"))
        while received < size:
            received += len(await self.hear())

    async def stream_in(self, size: int) -> None:
        """Sends as much to `dd` in the guest, and waits until it has it."""
        await self._port.send_all(b"in %d\n" % (size // CHUNK))
        chunk = bytes(CHUNK)
        for _ in range(size // CHUNK):
            await self._port.send_all(chunk)
        await self.hear()

    async def power_off(self) -> None:
        """Lets the guest itself end the machine, and waits for it."""
        await self._port.send_all(b"off\n")
        await self.process.wait()

    async def kill(self) -> None:
        """Ends the machine's process, and waits for it."""
        self.process.kill()
        await self.process.wait()


async def before_end(process: trio.Process, work: Callable[[], Awaitable[T]]) -> T | None:
    """What the work gives, or None where the process ends before it can, which breaks its connections."""
    done: list[T] = []
    async with trio.open_nursery() as race:

        async def watch() -> None:
            await process.wait()
            race.cancel_scope.cancel()

        race.start_soon(watch)
        try:
            done.append(await work())
        except (OSError, trio.BrokenResourceError):
            with trio.move_on_after(END_SECONDS):
                await process.wait()
            if process.returncode is None:
                raise
        race.cancel_scope.cancel()
    return done[0] if done else None
