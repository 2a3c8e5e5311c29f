"""An engine that cannot boot a machine is replaced in the same start, where the choice was the runtime's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

import boxlite
from boxlite.errors import BootFailed
from boxlite.runtime.layout import Home
from boxlite.runtime.parts import Parts
from boxlite.vmm.engines import ENGINE, choose_engine
from boxlite.vmm.facts import HostFacts, gather_facts
from boxlite.vmm.failures import read_failures
from vmm_ffi.spec import Accelerator, VmmKind

IMAGE = "builtin/python"


@pytest.fixture
def broken(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host that looks as if it had KVM, and whose libkrun is none; QEMU with KVM has failed before.

    Gives the file that remembers failures, which is removed.
    """
    library = tmp_path / "libkrun.so.1.99.0"
    library.write_bytes(b"no library")

    async def gather(*, kernel: Path | None, failures: Mapping[str, str]) -> HostFacts:
        facts = attrs.evolve(
            await gather_facts(kernel=kernel, krun=library),
            cpu_flags=frozenset({"svm"}),
            kvm_problem=None,
        )
        with_kvm = choose_engine(facts, VmmKind.QEMU)
        return attrs.evolve(facts, failures={**failures, with_kvm.name: "it hung"})

    monkeypatch.setattr("boxlite.runtime.parts.gather_facts", gather)
    monkeypatch.delenv(ENGINE, raising=False)
    remembered = Home(home).failed_engines
    yield remembered
    remembered.unlink(missing_ok=True)


async def test_a_box_runs_on_the_next_engine_and_later_ones_do_at_once(
    broken: Path, home: Path, sockets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with boxlite.open_runtime(ephemeral=True) as runtime:
        assert (await runtime.engine()).kind is VmmKind.KRUN
        async with runtime.open_box(IMAGE, name="mine") as box:
            assert (await box.run(["echo", "up"])).stdout == b"up\n"
        choice = await runtime.engine()
    assert (choice.kind, choice.accelerator) == (VmmKind.QEMU, Accelerator.TCG)
    assert "qemu tries in place of krun" in caplog.text
    assert "libkrun cannot be loaded" in caplog.text
    [(name, reason)] = read_failures(broken).items()
    assert name.startswith("krun/kvm ")
    assert "exited with status 125 before the guest was ready" in reason
    later = await Parts(Home(home), engine=None, kernel=None).engine()
    assert later.kind is VmmKind.QEMU
    assert reason in later.reason


async def test_an_engine_that_was_asked_for_has_none_in_its_place(broken: Path, home: Path, sockets: Path) -> None:
    async with boxlite.open_runtime(ephemeral=True, engine="krun") as runtime:
        async with runtime.open_box(IMAGE) as box:
            with pytest.raises(BootFailed, match=r"libkrun cannot be loaded: .*install it") as caught:
                await box.start()
        assert caught.value.ended
        assert (await runtime.engine()).kind is VmmKind.KRUN
    assert read_failures(broken) == {}
