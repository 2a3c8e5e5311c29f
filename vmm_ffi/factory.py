"""Which engine belongs to which kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vmm_ffi.qemu import QemuVmm
from vmm_ffi.spec import VmmKind
from vmm_ffi.vmm import Vmm, VmmError


class VmmFactory:
    """Maps a `VmmKind` to a `Vmm`."""

    def __init__(self, engines: Mapping[VmmKind, Callable[[], Vmm]] | None = None) -> None:
        """`engines` replaces the built-in ones."""
        self._engines = {VmmKind.QEMU: QemuVmm, VmmKind.KRUN: _krun} if engines is None else engines

    def vmm(self, kind: VmmKind) -> Vmm:
        """The engine of that kind; raises `VmmError` for one that this version does not have."""
        try:
            engine = self._engines[kind]
        except KeyError:
            have = ", ".join(self._engines)
            raise VmmError(f"this version has no engine {kind}; it has: {have}") from None
        return engine()


def _krun() -> Vmm:
    # Loaded when it is needed: QEMU's shims do without cffi.
    from vmm_ffi.krun import KrunVmm

    return KrunVmm()
