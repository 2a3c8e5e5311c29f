"""The parts that all boxes of a runtime share."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest

from boxlite.errors import EngineUnavailable
from boxlite.runtime.layout import Home
from boxlite.runtime.parts import Parts
from boxlite.vmm.facts import HostFacts
from tests.vmm.test_engines import CAPABLE, WITH_KRUN
from vmm_ffi.spec import VmmKind


async def test_a_kernel_of_one_s_own_is_another_one_when_its_file_has_changed(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(b"one")
    os.utime(kernel, (1, 1))
    seen = []
    for content, seconds in ((b"one", 1), (b"two", 2), (b"longer", 2)):
        kernel.write_bytes(content)
        os.utime(kernel, (seconds, seconds))
        parts = Parts(Home(tmp_path / "home"), engine=None, kernel=kernel)
        assert await parts.kernel() == kernel
        seen.append(await parts.kernel_identity())
    assert len({*seen}) == 3


async def test_a_kernel_out_of_libkrunfw_is_known_by_its_name(home: Path) -> None:
    found = Home(home)
    found.make()
    parts = Parts(found, engine=None, kernel=None)
    assert await parts.kernel_identity() == (await parts.kernel()).name


async def test_a_box_with_volumes_runs_on_qemu_also_where_libkrun_runs_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = attrs.evolve(WITH_KRUN, share_server=Path("/usr/libexec/virtiofsd"))

    async def gather_facts(**given: object) -> HostFacts:
        return facts

    monkeypatch.setattr("boxlite.runtime.parts.gather_facts", gather_facts)
    parts = Parts(Home(tmp_path), engine=None, kernel=None)
    assert (await parts.engine()).kind is VmmKind.KRUN
    chosen = await parts.engine_with_volumes()
    assert (chosen.kind, chosen.share_server) == (VmmKind.QEMU, facts.share_server)
    assert (await parts.engine()).kind is VmmKind.KRUN
    asked_for = Parts(Home(tmp_path), engine=VmmKind.KRUN, kernel=None)
    with pytest.raises(EngineUnavailable, match="use the engine qemu, or auto, which takes qemu for them"):
        await asked_for.engine_with_volumes()
    facts = attrs.evolve(facts, qemu=None)
    with pytest.raises(EngineUnavailable, match="volumes need the engine qemu: there is no QEMU in PATH: install QEMU"):
        await parts.engine_with_volumes()
    facts = CAPABLE
    only = Parts(Home(tmp_path), engine=None, kernel=None)
    assert await only.engine_with_volumes() == await only.engine()
