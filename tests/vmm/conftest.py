"""A kernel and a guest's disk, made once, and the specification of a machine that boots them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
import trio

from boxlite.vmm.engines import EngineChoice, choose_engine
from boxlite.vmm.facts import gather_facts
from boxlite.vmm.zygote import Zygote, open_zygote
from tests.vmm.guest_disk import make_disk
from vmm_ffi.spec import DiskSpec, InstanceSpec, PortSpec, VmmKind


class MakeSpec(Protocol):
    def __call__(
        self,
        script: str,
        *,
        disks: tuple[DiskSpec, ...] = (),
        ports: tuple[PortSpec, ...] = (),
        cpus: int = 1,
        network: bool = False,
    ) -> InstanceSpec: ...


@pytest.fixture(scope="session")
def choice() -> EngineChoice:
    return choose_engine(trio.run(gather_facts), VmmKind.QEMU)


@pytest.fixture(scope="session")
def kernel(choice: EngineChoice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("kernel") / "kernel.elf"
    assert choice.kernel_library is not None
    subprocess.run([sys.executable, "-m", "vmm_ffi.kernel", choice.kernel_library, output], check=True)
    return output


@pytest.fixture(scope="session")
def root_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guest")
    # The comma is there for QEMU, which ends an option's value at one.
    return make_disk(folder / "root,readonly=off.ext4", folder / "tree")


@pytest.fixture
def make_spec(choice: EngineChoice, kernel: Path, root_disk: Path) -> MakeSpec:
    def make(
        script: str,
        *,
        disks: tuple[DiskSpec, ...] = (),
        ports: tuple[PortSpec, ...] = (),
        cpus: int = 1,
        network: bool = False,
    ) -> InstanceSpec:
        return InstanceSpec(
            box_id="test",
            kind=choice.kind,
            kernel=str(kernel),
            disks=(DiskSpec(str(root_disk), "root"), *disks),
            ports=ports,
            kernel_args=(f"test.script={script}",),
            cpus=cpus,
            memory_mib=128,
            accelerator=choice.accelerator,
            parallel_cpus=choice.parallel_cpus,
            tsc_khz=choice.tsc_khz,
            network=network,
            program=str(choice.program),
        )

    return make


@pytest.fixture
async def zygote() -> AsyncIterator[Zygote]:
    async with open_zygote() as zygote:
        yield zygote
