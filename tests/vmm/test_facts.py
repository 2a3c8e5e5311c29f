from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.errors import EngineUnavailable
from boxlite.vmm.facts import LIBKRUN, cpu_flags, gather_facts, processor, tsc_khz
from vmm_ffi.spec import SNAPSHOT_CALLS

TOLD = "processor\t: 0\ncpu MHz\t\t: 2596.144\nflags\t\t: fpu hypervisor constant_tsc nonstop_tsc tsc_known_freq\n"


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


async def test_this_hosts_engine_and_kernel_are_found() -> None:
    facts = await gather_facts()
    assert facts.qemu is not None
    assert facts.qemu.is_absolute()
    assert facts.qemu_version is not None
    assert "{}.{}".format(*facts.qemu_version) in facts.qemu_release
    assert re.fullmatch("[0-9a-f]{16}", facts.processor)
    assert re.fullmatch("[0-9a-f]{16}", facts.command_line)
    assert facts.kernel_library is not None
    assert facts.kernel_library.is_absolute()
    assert facts.krun is not None
    assert facts.krun.is_absolute()
    assert str(facts.krun.stat().st_size) in facts.krun_release
    assert facts.krun_saves
    assert "smol" not in sys.modules


async def test_a_libkrun_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is given by the caller comes before that, and one that is missing is an error."""
    for name in ("named", "given"):
        (tmp_path / name).touch()
    monkeypatch.setenv(LIBKRUN, str(tmp_path / "named"))
    assert (await gather_facts()).krun == tmp_path / "named"
    assert (await gather_facts(krun=tmp_path / "given")).krun == tmp_path / "given"
    monkeypatch.setenv(LIBKRUN, str(tmp_path / "nowhere"))
    with pytest.raises(EngineUnavailable, match="nowhere is not a file"):
        await gather_facts()


async def test_a_libkrun_saves_machines_that_has_all_the_calls_for_it(tmp_path: Path) -> None:
    """Found by reading it, since a library of whom it may be is loaded in a machine's own process alone."""
    library = tmp_path / "libkrun.so"
    for names, saves in ((SNAPSHOT_CALLS, True), (SNAPSHOT_CALLS[1:], False), (["x" + SNAPSHOT_CALLS[0]], False)):
        library.write_bytes(b"\x7fELF\0" + "\0".join(names).encode() + b"\0")
        assert (await gather_facts(krun=library)).krun_saves is saves


async def test_what_is_given_is_taken(tmp_path: Path) -> None:
    qemu = program(tmp_path / "qemu", "echo QEMU emulator version 11.3.50")
    library = tmp_path / "libkrunfw.so"
    library.touch()
    facts = await gather_facts(qemu=qemu, kernel=library, kernel_library=library)
    assert (facts.qemu, facts.qemu_version) == (qemu, (11, 3))
    assert (facts.kernel, facts.kernel_library) == (library, library)


async def test_a_given_file_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"nowhere is not a file"):
        await gather_facts(kernel=tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["exit 1", "echo no numbers", "kill -9 $$", "echo version 99"])
async def test_a_program_that_tells_no_version_is_of_unknown_version(tmp_path: Path, text: str) -> None:
    assert (await gather_facts(qemu=program(tmp_path / "qemu", text))).qemu_version is None


async def test_a_program_that_cannot_run_is_of_unknown_version(tmp_path: Path) -> None:
    (tmp_path / "qemu").write_bytes(b"\0not a program")
    assert (await gather_facts(qemu=tmp_path / "qemu")).qemu_version is None


def test_the_counters_rate_is_taken_from_a_virtual_machine_that_was_told_it() -> None:
    assert tsc_khz(TOLD) == 2_596_144


@pytest.mark.parametrize("flag", ["hypervisor", "constant_tsc", "nonstop_tsc", "tsc_known_freq"])
def test_the_counters_rate_is_unknown_where_the_shown_one_might_be_another(flag: str) -> None:
    assert tsc_khz(TOLD.replace(flag, "")) is None
    assert tsc_khz(TOLD.replace(flag, f"{flag} aperfmperf")) is None


def test_a_processor_is_known_by_its_model_and_features_and_not_by_its_speed() -> None:
    assert processor(TOLD) == processor(TOLD.replace("2596.144", "1200.000"))
    assert processor(TOLD) != processor(TOLD.replace("fpu", "fpu avx512f"))
    assert processor(TOLD) != processor(TOLD + "model name\t: another\n")
    assert processor("") == ""


@given(st.text())
def test_strange_processor_information_is_no_error(cpuinfo: str) -> None:
    assert cpu_flags(cpuinfo) is not None
    assert tsc_khz(cpuinfo) is None
    assert processor(cpuinfo) is not None
    assert tsc_khz(TOLD.replace("2596.144", "x" + cpuinfo)) is None
