from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.errors import EngineUnavailable, InvalidOptions
from boxlite.vmm.engines import ENGINE, choose_engine, engine_kind
from boxlite.vmm.facts import HostFacts
from vmm_ffi.spec import Accelerator, VmmKind

QEMU, LIBRARY, KERNEL = Path("/usr/bin/qemu-system-x86_64"), Path("/usr/lib/libkrunfw.so.5"), Path("/home/me/vmlinux")
KRUN = Path("/usr/lib64/libkrun.so.1")

CAPABLE = HostFacts(
    system="Linux",
    machine="x86_64",
    cpu_flags=frozenset({"svm"}),
    qemu=QEMU,
    qemu_version=(10, 0),
    kernel_library=LIBRARY,
)
WITH_KRUN = attrs.evolve(CAPABLE, krun=KRUN, krun_release="/usr/lib64/libkrun.so.1.17.0 1 2")

host_facts = st.builds(
    HostFacts,
    system=st.sampled_from(["Linux", "Darwin"]),
    machine=st.sampled_from(["x86_64", "aarch64"]),
    cpu_flags=st.frozensets(st.sampled_from(["vmx", "svm"])),
    kvm_problem=st.sampled_from([None, "/dev/kvm: Permission denied"]),
    qemu=st.sampled_from([None, QEMU]),
    qemu_version=st.sampled_from([None, (7, 2), (10, 0)]),
    kernel=st.sampled_from([None, KERNEL]),
    kernel_library=st.sampled_from([None, LIBRARY]),
    krun=st.sampled_from([None, KRUN]),
    failures=st.dictionaries(st.sampled_from(["krun/kvm ", "qemu/kvm "]), st.just("it died")),
)


@given(host_facts, st.sampled_from([None, *VmmKind]))
def test_a_choice_can_run_or_the_error_says_what_to_do(facts: HostFacts, wanted: VmmKind | None) -> None:
    kernel = facts.kernel or facts.kernel_library
    here = (facts.system, facts.machine) == ("Linux", "x86_64") and kernel is not None
    kvm = bool(facts.cpu_flags) and facts.kvm_problem is None
    krun = here and kvm and facts.krun is not None and wanted is not VmmKind.QEMU
    krun = krun and (wanted is VmmKind.KRUN or "krun/kvm " not in facts.failures)
    qemu = here and facts.qemu is not None and wanted is not VmmKind.KRUN
    if not (krun or qemu):
        with pytest.raises(EngineUnavailable, match=r"install|use the engine|this version runs on"):
            choose_engine(facts, wanted)
        return
    choice = choose_engine(facts, wanted)
    assert (choice.kind, choice.program, choice.library) == (
        (VmmKind.KRUN, None, KRUN) if krun else (VmmKind.QEMU, facts.qemu, None)
    )
    assert (choice.kernel or choice.kernel_library) == kernel
    assert (choice.kernel is None) != (choice.kernel_library is None)
    failed = wanted is None and "qemu/kvm " in facts.failures
    assert (choice.accelerator is Accelerator.KVM) == (krun or (kvm and not failed))
    assert "\n" not in choice.reason


def test_the_environment_may_say_what_auto_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else; a name that is none is an error that says where it stands."""
    for value, kind in (("", None), ("auto", None), ("krun", VmmKind.KRUN), ("qemu", VmmKind.QEMU)):
        monkeypatch.setenv(ENGINE, value)
        assert engine_kind("auto") is kind
        assert engine_kind("qemu") is VmmKind.QEMU
    monkeypatch.setenv(ENGINE, "xen")
    with pytest.raises(InvalidOptions, match=r"\$BOXLITE_ENGINE is 'auto', 'krun' or 'qemu', not 'xen'"):
        engine_kind("auto")
    with pytest.raises(InvalidOptions, match=r"the engine is .* not 'kvm'"):
        engine_kind("kvm")


def test_libkrun_is_taken_where_it_can_work() -> None:
    choice = choose_engine(WITH_KRUN)
    assert (choice.kind, choice.accelerator, choice.library) == (VmmKind.KRUN, Accelerator.KVM, KRUN)
    assert choose_engine(WITH_KRUN, VmmKind.QEMU).kind is VmmKind.QEMU
    assert choose_engine(attrs.evolve(WITH_KRUN, qemu=None)).kind is VmmKind.KRUN
    assert not choice.saves
    assert choose_engine(attrs.evolve(WITH_KRUN, krun_saves=True)).saves
    assert choose_engine(WITH_KRUN, VmmKind.QEMU).saves


def test_what_has_failed_since_the_host_booted_is_passed_over_and_named() -> None:
    """First libkrun, then QEMU with KVM; QEMU in software cannot fail for want of KVM. A wish is followed anyway."""
    facts, seen = WITH_KRUN, []
    for _ in range(3):
        choice = choose_engine(facts)
        seen.append((choice.kind, choice.accelerator))
        facts = attrs.evolve(facts, failures={**facts.failures, choice.name: "it fell over"})
    assert seen == [
        (VmmKind.KRUN, Accelerator.KVM),
        (VmmKind.QEMU, Accelerator.KVM),
        (VmmKind.QEMU, Accelerator.TCG),
    ]
    assert "it fell over" in choose_engine(facts).reason
    assert choose_engine(facts, VmmKind.KRUN).kind is VmmKind.KRUN
    # Another version of the library is another chance.
    assert choose_engine(attrs.evolve(facts, krun_release="newer")).kind is VmmKind.KRUN


def test_volumes_decide_nothing() -> None:
    """Either engine has them, by the same server, or has none."""
    for facts in (CAPABLE, WITH_KRUN):
        for server in (None, Path("/usr/libexec/virtiofsd")):
            choice = choose_engine(attrs.evolve(facts, share_server=server))
            assert (choice.kind, choice.share_server) == (choose_engine(facts).kind, server)


def test_kvm_is_taken_where_the_processor_and_the_device_offer_it() -> None:
    assert choose_engine(CAPABLE).accelerator is Accelerator.KVM


def test_a_kvm_device_without_the_processors_flag_is_not_taken() -> None:
    """Such devices exist: they open, make virtual CPUs, and then cannot run a stock kernel."""
    choice = choose_engine(attrs.evolve(CAPABLE, cpu_flags=frozenset()))
    assert choice.accelerator is Accelerator.TCG
    assert "neither vmx nor svm" in choice.reason


def test_a_kvm_device_that_cannot_be_opened_is_not_taken() -> None:
    choice = choose_engine(attrs.evolve(CAPABLE, kvm_problem="/dev/kvm: Permission denied"))
    assert choice.accelerator is Accelerator.TCG
    assert "/dev/kvm: Permission denied" in choice.reason


def test_a_kernel_of_the_users_own_needs_no_library() -> None:
    choice = choose_engine(attrs.evolve(CAPABLE, kernel=KERNEL, kernel_library=None))
    assert (choice.kernel, choice.kernel_library) == (KERNEL, None)


@pytest.mark.parametrize(("version", "parallel"), [(None, False), ((7, 2), False), ((9, 9), False), ((10, 0), True)])
def test_virtual_processors_run_in_parallel_only_where_that_is_known_to_work(
    version: tuple[int, int] | None, parallel: bool
) -> None:
    assert choose_engine(attrs.evolve(CAPABLE, qemu_version=version)).parallel_cpus is parallel


@pytest.mark.parametrize(
    ("facts", "wanted", "message"),
    [
        (attrs.evolve(CAPABLE, qemu=None), None, "apt-get install qemu-system-x86"),
        (attrs.evolve(CAPABLE, qemu=None), VmmKind.QEMU, "apt-get install qemu-system-x86"),
        (attrs.evolve(CAPABLE, kernel_library=None), None, r"pip install 'boxlite-trio\[krun\]'"),
        (attrs.evolve(CAPABLE, machine="aarch64"), None, "Linux on aarch64"),
        (attrs.evolve(CAPABLE, system="Darwin"), None, "Darwin on x86_64"),
        (CAPABLE, VmmKind.KRUN, r"there is no libkrun: install libkrun, .*pip install 'boxlite-trio\[krun\]'"),
        (attrs.evolve(WITH_KRUN, cpu_flags=frozenset()), VmmKind.KRUN, "neither vmx nor svm: .* use the engine qemu"),
        (attrs.evolve(WITH_KRUN, kernel_library=None), VmmKind.KRUN, r"pip install 'boxlite-trio\[krun\]'"),
    ],
)
def test_what_is_missing_is_named(facts: HostFacts, wanted: VmmKind | None, message: str) -> None:
    with pytest.raises(EngineUnavailable, match=message):
        choose_engine(facts, wanted)


@pytest.mark.parametrize(
    ("version", "in_ms"), [(None, False), ((7, 2), False), ((9, 1), False), ((9, 2), True), ((10, 0), True)]
)
def test_the_unit_of_reconnecting_follows_the_version_of_qemu(version: tuple[int, int] | None, in_ms: bool) -> None:
    assert choose_engine(attrs.evolve(CAPABLE, qemu_version=version)).reconnect_in_ms == in_ms


@pytest.mark.parametrize(
    ("flags", "khz", "seen"),
    [({"svm"}, 2_000_000, "abc"), (set(), None, "abc"), (set(), 2_000_000, "")],
    ids=["with KVM", "in software by a measured clock", "in software by a known clock"],
)
def test_a_processor_counts_where_guests_see_it(flags: set[str], khz: int | None, seen: str) -> None:
    facts = attrs.evolve(CAPABLE, cpu_flags=frozenset(flags), tsc_khz=khz, processor="abc")
    assert choose_engine(facts).processor == seen
