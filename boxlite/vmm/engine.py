"""What the runtime needs of whatever runs virtual machines.

`boxlite.vmm.local` implements it with real ones, `boxlite.testing` with a model, and the same conformance tests hold
both. Everything above this interface is the same for both.
"""

from __future__ import annotations

import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import attrs

from boxlite.portal.interface import GuestSession
from boxlite.vmm.console import Console
from boxlite.vmm.process import VmExit
from vmm_ffi.spec import InstanceSpec, ProcessIdentity, VmRecord

__all__ = ["Engine", "ProcessIdentity", "Snapshot", "SnapshotDamaged", "Vm", "VmRecord"]


@attrs.frozen
class Snapshot:
    """A virtual machine that was saved while it ran. Any number may be restored from it, at once and again."""

    memory: Path
    """What its memory held; restored machines share it, copy-on-write."""
    state: Path
    """What its processors and devices held."""


class SnapshotDamaged(OSError):
    """What was saved is not what a machine can be restored from."""


class Vm(Protocol):
    """A virtual machine that was launched or adopted; valid in that block."""

    @property
    def record(self) -> VmRecord:
        """What the store keeps of it."""

    @property
    def console(self) -> Console:
        """The last of what it printed; of a detached one, at this moment."""

    @property
    def exit(self) -> VmExit | None:
        """How it ended; None while it runs."""

    async def wait(self) -> VmExit:
        """Returns when it has ended and its console is complete. Cancelling leaves it running."""

    async def connect(self) -> GuestSession:
        """Waits until the guest has connected, and gives the session; each call gives a new one.

        The first call on a launched machine also waits for the ready notice and checks it; on a restored one, it
        loads the saved state, and waits until it runs. Raises OSError where that state is damaged, or is not of a
        machine like this one; OSError or ValueError where the guest hangs up or talks nonsense. It does not end
        when the machine ends: the caller races the two.
        """

    async def pause(self) -> None:
        """Stops its processors. Raises OSError where the machine does not answer or has ended."""

    async def resume(self) -> None:
        """Lets its processors go on. Raises OSError as `pause` does."""

    async def wait_stalled(self) -> str:
        """Returns when the engine has stopped its processors by itself, with the reason as a phrase.

        That is when the host has no room for what it writes. `resume` makes it try again. One task at a time may wait.
        """

    async def press_power_button(self) -> None:
        """Asks the machine itself, not the guest's agent, to end, so that its disks are flushed.

        Returns when it was asked. Raises OSError as `pause` does.
        """

    async def save(self, state: Path) -> None:
        """Stops its processors for good and writes what they and its devices hold into a new file.

        Only for one that was launched with `memory`, else ValueError; its memory is complete with it, and both are a
        `Snapshot`, together with the content that its disks have now. Hangs up first. Raises OSError, and leaves no
        file then.
        """

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Sends a signal, soon and without waiting; nothing happens when it has ended."""

    def release(self) -> None:
        """From now on leaving the block leaves it running; only for one that was launched detached."""


class Engine(Protocol):
    """Launches virtual machines, and finds those again that outlived their runtime."""

    def launch(
        self,
        spec: InstanceSpec,
        *,
        directory: Path,
        detached: bool,
        memory: Path | None = None,
        restore: Snapshot | None = None,
    ) -> AbstractAsyncContextManager[Vm]:
        """Spawns a machine; leaving the block kills it, unless it was released.

        With `memory`, its memory is a new file of that name, for `Vm.save`; where it was not saved, leaving the block
        removes the file. With `restore`, it goes on where the saved one was: `spec` must be that one's but for names
        and paths, with disks of the same content, and the files of the snapshot must not be changed while it runs,
        but may be moved and removed.

        An engine that cannot do either (`EngineChoice.saves`) ends the machine with a line on its console.

        The engine adds the ports and their nonce to `spec`. A detached one writes its identity, its console and its
        exit into files of `directory`. Raises `ZygoteError`, OSError where a file or descriptor is missing,
        `SnapshotDamaged`, or `StorageFull`. Cancellation leaves no process, socket or file.
        """

    def adopt(self, record: VmRecord, *, directory: Path) -> AbstractAsyncContextManager[Vm]:
        """Takes a detached machine over that is running; leaving the block kills it, unless it was released.

        Raises `VmGone` with its exit, as far as that is known.
        """

    async def put_down(self, record: VmRecord | None, *, directory: Path) -> VmExit | None:
        """Ends what is left of a machine that nobody will adopt, and removes its sockets; how it ended, where known.

        Without a record, what `directory` says is followed. Does nothing to a process that is another one by now.
        """
