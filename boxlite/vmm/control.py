"""What acts on a machine past its guest: QEMU does so by its monitor, libkrun by the signals that stop any process."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Final, Protocol, final

import trio

from boxlite.vmm.appearing import wait_for_path
from boxlite.vmm.console import Console
from boxlite.vmm.kept import KeptProcess
from boxlite.vmm.migration import load_state, save_state
from boxlite.vmm.process import VmProcess
from boxlite.vmm.qmp import Monitor, MonitorError
from boxlite.vmm.saving import Saving
from vmm_ffi.spec import ProcessIdentity, identity_of

END_SECONDS: Final = 2.0
"""A machine that ends hangs up first, and its end says more."""

_LAST_LINES = 4
_LOOK_SECONDS = 0.001
_STOPPED = frozenset(b"Tt")


class Control(Protocol):
    """See `boxlite.vmm.engine.Vm` for what each of them does and raises."""

    async def pause(self) -> None:
        """See `Vm`."""

    async def resume(self) -> None:
        """See `Vm`."""

    async def wait_stalled(self) -> str:
        """See `Vm`."""

    async def press_power_button(self) -> None:
        """See `Vm`."""

    async def load(self, state: Path) -> None:
        """Has it go on from a saved state; raises OSError."""

    async def save(self, state: Path) -> None:
        """See `Vm`."""

    def close(self) -> None:
        """Hangs up."""


@final
class MonitorControl:
    """By QEMU's monitor."""

    def __init__(self, monitor: Monitor, process: VmProcess | KeptProcess) -> None:
        self._monitor = monitor
        self._process = process

    async def pause(self) -> None:
        """See `Vm`."""
        await self._command("stop")

    async def resume(self) -> None:
        """See `Vm`."""
        await self._command("cont")

    async def wait_stalled(self) -> str:
        """See `Vm`."""
        return await self._monitor.wait_stalled()

    async def press_power_button(self) -> None:
        """See `Vm`."""
        # Without ACPI this machine has no button (`system_powerdown` does nothing), so QEMU ends it: that writes the
        # disks' caches back, as a switch of the power would after a press.
        await self._command("quit")

    async def load(self, state: Path) -> None:
        """See `Control`."""
        try:
            await load_state(self._monitor, state)
        except MonitorError as error:
            # QEMU says on the console what it does not understand, and ends.
            with trio.move_on_after(END_SECONDS):
                await self._process.wait()
            said = self._console.tail(_LAST_LINES)
            raise MonitorError(f"the machine cannot be restored: {error}" + (f": {said}" if said else "")) from error

    async def save(self, state: Path) -> None:
        """See `Vm`."""
        await save_state(self._monitor, state)

    def close(self) -> None:
        """See `Control`."""
        self._monitor.close()

    @property
    def _console(self) -> Console:
        return self._process.console

    async def _command(self, command: str) -> None:
        """Raises OSError; the end of the machine is one of the ways to do what "quit" says."""
        failure: OSError | None = None
        async with trio.open_nursery() as race:

            async def watch_end() -> None:
                nonlocal failure
                how = await self._process.wait()
                failure = None if command == "quit" else ProcessLookupError(f"the virtual machine {how}")
                race.cancel_scope.cancel()

            race.start_soon(watch_end)
            try:
                await self._monitor.execute(command)
                race.cancel_scope.cancel()
            except OSError as error:
                failure = error
                with trio.move_on_after(END_SECONDS):
                    await trio.sleep_forever()
                race.cancel_scope.cancel()
        if failure is not None:
            raise failure


@final
class SignalControl:
    """By signals to the process that libkrun has made the machine of: it has no other way that all versions share."""

    def __init__(
        self, process: VmProcess | KeptProcess, identity: ProcessIdentity, agent: Path, saving: Saving | None = None
    ) -> None:
        """Its guest is reached by the socket `agent`. Without `saving` it cannot be saved."""
        self._process = process
        self._identity = identity
        self._agent = agent
        self._saving = saving

    async def pause(self) -> None:
        """See `Vm`."""
        await self._signal(signal.SIGSTOP, stopped=True)

    async def resume(self) -> None:
        """See `Vm`."""
        await self._signal(signal.SIGCONT, stopped=False)

    async def wait_stalled(self) -> str:
        """See `Vm`. libkrun tells its guest of a write that failed, and never stops it."""
        await trio.sleep_forever()

    async def press_power_button(self) -> None:
        """See `Vm`."""
        await trio.lowlevel.checkpoint()
        if self._process.exit is None:
            raise OSError(errno.EOPNOTSUPP, "libkrun's machines have no power button: they shut down or are killed")

    async def load(self, state: Path) -> None:
        """See `Control`. It has got its state when it was launched, and goes on by itself."""
        ended = False
        async with trio.open_nursery() as race:

            async def watch_end() -> None:
                nonlocal ended
                await self._process.wait()
                ended = True
                race.cancel_scope.cancel()

            race.start_soon(watch_end)
            await wait_for_path(self._agent)
            race.cancel_scope.cancel()
        if ended:
            said = self._process.console.tail(_LAST_LINES)
            raise OSError(errno.EINVAL, "the machine cannot be restored" + (f": {said}" if said else ""))

    async def save(self, state: Path) -> None:
        """See `Vm`."""
        if self._saving is None:
            raise ValueError("a machine whose memory is in no file cannot be saved")
        await self._saving.save(state)

    def close(self) -> None:
        """There is nothing to hang up."""

    async def _signal(self, number: int, *, stopped: bool) -> None:
        self._check_alive()
        self._process.kill(number)
        # Nobody but its parent is told when a process stops (waitpid(2)), and that is another one.
        while _is_stopped(self._identity.pid) is not stopped:
            self._check_alive()
            await trio.sleep(_LOOK_SECONDS)
        self._check_alive()
        await trio.lowlevel.checkpoint()

    def _check_alive(self) -> None:
        """Raises ProcessLookupError where it has ended."""
        how = self._process.exit
        if how is not None or identity_of(self._identity.pid) != self._identity:
            raise ProcessLookupError(f"the virtual machine {how or 'has ended'}")


def _is_stopped(pid: int) -> bool:
    """Whether every thread of the process stands still (proc(5), the state in /proc/PID/task/TID/stat)."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        return all(_state(f"/proc/{pid}/task/{thread}/stat") in _STOPPED for thread in threads)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _state(path: str) -> int:
    with open(path, "rb") as file:
        return file.read().rpartition(b")")[2].split()[0][0]
