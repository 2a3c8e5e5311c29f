"""What every box of a runtime shares, made when it is first needed and then kept."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar, final

import trio

from boxlite.errors import EngineUnavailable
from boxlite.images.builtin import ensure_guest_root
from boxlite.runtime.layout import Home
from boxlite.vmm.engines import EngineChoice, choose_engine
from boxlite.vmm.facts import HostFacts, gather_facts
from boxlite.vmm.failures import note_failure, read_failures
from boxlite.vmm.kernel import ensure_kernel
from vmm_ffi.spec import Accelerator, VmmKind

_log = logging.getLogger(__name__)

T = TypeVar("T")


class _Once(Generic[T]):
    """A value that is made once. Whoever comes meanwhile waits, and makes it when the first one failed or gave up."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._lock = trio.Lock()
        self._made: list[T] = []

    async def get(self) -> T:
        async with self._lock:
            if not self._made:
                self._made.append(await self._make())
            return self._made[0]

    def replace(self, value: T) -> None:
        """From now on this one is given."""
        self._made[:] = [value]


@final
class Parts:
    """The engine, the kernel and the guest's root disk of one runtime."""

    def __init__(self, home: Home, *, engine: VmmKind | None, kernel: Path | None) -> None:
        self._home = home
        self._wanted = engine
        self._own_kernel = None if kernel is None else kernel.absolute()
        self._failures: dict[str, str] = {}
        """Of this runtime's own boxes, by `EngineChoice.name`."""
        self._engine = _Once(self._choose_engine)
        self._kernel = _Once(self._make_kernel)
        self._guest_root = _Once(lambda: ensure_guest_root(home.builtin))

    async def engine(self) -> EngineChoice:
        """Which engine runs the boxes, and why; raises `EngineUnavailable`."""
        return await self._engine.get()

    async def fallback(self, failed: EngineChoice, reason: str) -> EngineChoice | None:
        """See `boxlite.boxes.services.HostParts`: where an engine was asked for by name, no other one is allowed."""
        if self._wanted is not None or failed.accelerator is not Accelerator.KVM:
            return None
        self._failures[failed.name] = reason
        try:
            instead = choose_engine(await self._gather_facts())
        except EngineUnavailable:
            return None
        return None if instead.name == failed.name else instead

    async def replace_engine(self, failed: EngineChoice, reason: str, instead: EngineChoice) -> None:
        """See `boxlite.boxes.services.HostParts`."""
        self._engine.replace(instead)
        try:
            note_failure(self._home.failed_engines, failed.name, reason)
        except OSError as error:
            _log.warning("it could not be noted that the engine %s does not work here: %s", failed.kind, error)

    async def kernel(self) -> Path:
        """The kernel that every machine boots; raises `EngineUnavailable`."""
        return await self._kernel.get()

    async def kernel_identity(self) -> str:
        """A text that no other kernel has; raises what `kernel` raises, or OSError."""
        kernel = await self.kernel()
        if self._own_kernel is None:
            # The name says out of which library it was taken.
            return kernel.name
        status = await trio.Path(kernel).stat()
        return f"{kernel} {status.st_size} {status.st_mtime_ns}"

    async def guest_root(self) -> Path:
        """The read-only disk with the agent; raises `GuestBuildFailed` or `DiskError`."""
        return await self._guest_root.get()

    async def _choose_engine(self) -> EngineChoice:
        return choose_engine(await self._gather_facts(), self._wanted)

    async def _gather_facts(self) -> HostFacts:
        failures = read_failures(self._home.failed_engines) | self._failures
        return await gather_facts(kernel=self._own_kernel, failures=failures)

    async def _make_kernel(self) -> Path:
        choice = await self.engine()
        if choice.kernel is not None:
            return choice.kernel
        assert choice.kernel_library is not None
        return await ensure_kernel(self._home.kernels, choice.kernel_library)
