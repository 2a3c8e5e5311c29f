from __future__ import annotations

import pytest

from vmm_ffi.factory import VmmFactory
from vmm_ffi.qemu import QemuVmm
from vmm_ffi.spec import VmmKind
from vmm_ffi.vmm import VmmError


def test_a_kind_has_its_engine() -> None:
    assert isinstance(VmmFactory().vmm(VmmKind.QEMU), QemuVmm)


def test_an_engine_of_the_callers_own_takes_the_place_of_the_built_in_ones() -> None:
    class OwnVmm(QemuVmm):
        pass

    factory = VmmFactory({VmmKind.KRUN: OwnVmm})
    assert isinstance(factory.vmm(VmmKind.KRUN), OwnVmm)
    with pytest.raises(VmmError, match="no engine qemu; it has: krun"):
        factory.vmm(VmmKind.QEMU)


def test_libkrun_has_its_engine_without_being_loaded() -> None:
    assert type(VmmFactory().vmm(VmmKind.KRUN)).__name__ == "KrunVmm"
