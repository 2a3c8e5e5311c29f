"""What is measured, and what becomes of a measurement that fails. The last tests measure real machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio
from click.testing import CliRunner
from trio.testing import MockClock

from benchmarks.__main__ import main
from benchmarks.bare.engines import make_ready_machines
from benchmarks.bare.machine import BareParts
from benchmarks.boxes import crowds, plan
from benchmarks.boxes.bench import FULL, LAB, QUICK, Bench, Effort, Emit
from benchmarks.boxes.crowd import Crowd
from benchmarks.boxes.plan import choose, guard, measure, sections
from benchmarks.rows import LEFT_OUT, Row, from_json
from boxlite.vmm.engines import EngineChoice, krun_obstacle
from boxlite.vmm.facts import gather_facts
from vmm_ffi.spec import Accelerator, VmmKind

PROMISED = {
    "cold_first_output_p50",
    "agent_start_over_bare_python",
    "restore_first_output_p50",
    "pool_first_output_p50",
    "exec_over_spawn_p50",
    "stream_out_ratio",
    "stream_in_ratio",
    "idle_private_mib",
    "boxes_100_s",
}
ONE = Row("one", 1.0, "s", None, 1, "by hand")
ONCE = attrs.evolve(QUICK, restores=1)
ON_KRUN = EngineChoice(VmmKind.KRUN, Accelerator.KVM, None, False, None, None, None, "by hand")


def test_a_full_run_gives_every_row_that_is_promised() -> None:
    assert {name for section in sections(FULL) for name in section.rows} >= PROMISED


def test_samples_scale_and_one_of_each_is_left() -> None:
    """For machines that are twenty times slower. The crowds are what they are."""
    assert FULL.scaled(0.5).restores == FULL.restores // 2
    least = FULL.scaled(0.001)
    assert {least.cold, least.restores, least.pooled, least.executions, least.streams, least.agents, least.ends} == {1}
    assert least.crowds == FULL.crowds


@pytest.mark.parametrize("effort", [FULL, QUICK, LAB], ids=["full", "quick", "lab"])
def test_no_two_measurements_have_a_name_in_common(effort: Effort) -> None:
    names = [name for section in sections(effort) for name in (section.name, *section.rows)]
    assert len(names) == len(set(names))


def test_a_row_is_chosen_with_its_section() -> None:
    assert [section.name for section in choose(sections(FULL), ["boxes_100_s", "exec"])] == ["exec", "crowds"]


def test_a_name_that_nothing_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(KeyError, match=r"nothing is named boxes_7_s; there are .*boxes_100_s"):
        choose(sections(FULL), ["boxes_7_s", "exec"])


async def test_a_failure_costs_only_what_was_not_measured_before() -> None:
    async def fail(emit: Emit) -> None:
        emit(ONE)
        raise ExceptionGroup("of a nursery", [OSError("no room")])

    assert await guard(["one", "two"], fail) == [ONE, Row.missing("two", "OSError: no room")]


async def test_a_row_that_is_forgotten_is_told() -> None:
    async def forget(emit: Emit) -> None:
        emit(ONE)

    assert await guard(["one", "two"], forget) == [ONE, Row.missing("two", "the measurement did not give it")]


async def test_a_measurement_that_hangs_is_given_up(autojump_clock: MockClock) -> None:
    async def hang(emit: Emit) -> None:
        await trio.sleep_forever()

    assert await guard(["one"], hang) == [Row.missing("one", "it had not ended after 600 s")]


async def test_a_cancelled_run_ends() -> None:
    async def cancel(emit: Emit) -> None:
        scope.cancel()
        await trio.lowlevel.checkpoint()

    with trio.CancelScope() as scope:
        await guard(["one"], cancel)
    assert scope.cancelled_caught


def test_the_command_refuses_a_name_that_nothing_has() -> None:
    result = CliRunner().invoke(main, ["boxes", "--only", "nonsense"])
    assert result.exit_code == 2
    assert "nothing is named nonsense" in result.output


async def test_what_an_engine_does_not_have_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing else is measured in its place."""

    async def make_bench(effort: Effort, work: Path, engine: VmmKind) -> Bench:
        parts = BareParts(attrs.evolve(ON_KRUN, kind=engine), tmp_path, ())
        return Bench(effort, parts, tmp_path, work)

    async def measured(bench: Bench, emit: Emit) -> None:
        emit(ONE)

    monkeypatch.setattr(plan, "make_bench", make_bench)
    every = [
        plan.Section(
            "restore", ("two",), measured, lambda bench: "no templates" if bench.kind is VmmKind.KRUN else None
        ),
        plan.Section("exec", ("one",), measured),
    ]
    monkeypatch.setattr(plan, "sections", lambda effort: every)
    assert await measure(ONCE, engine=VmmKind.KRUN) == [Row.left_out("two", "no templates"), ONE]
    assert await measure(ONCE, ["two"], engine=VmmKind.KRUN) == [Row.left_out("two", "no templates")]
    assert await measure(ONCE, ["one", "restore"], engine=VmmKind.QEMU) == [
        ONE,
        Row.missing("two", "the measurement did not give it"),
        ONE,
    ]


def bench_of(work: Path, *, saves: bool, kind: VmmKind = VmmKind.KRUN) -> Bench:
    engine = attrs.evolve(ON_KRUN, kind=kind, saves=saves)
    return Bench(attrs.evolve(LAB, crowds=(2,)), BareParts(engine, work, ()), work, work)


@pytest.mark.parametrize(("saves", "left_out"), [(False, ["restore"]), (True, [])])
def test_where_libkrun_saves_no_machines_restores_alone_are_left_out(
    saves: bool, left_out: list[str], tmp_path: Path
) -> None:
    """It is the library that can or cannot, not the engine."""
    bench = bench_of(tmp_path, saves=saves)
    assert [section.name for section in sections(FULL) if section.left_out(bench)] == left_out


async def test_where_libkrun_saves_no_machines_bare_ones_boot_as_boxes_do(tmp_path: Path) -> None:
    """None is booted to be saved, for which there is no library here."""
    await make_ready_machines(bench_of(tmp_path, saves=False).parts, tmp_path)
    assert not await trio.Path(tmp_path / "bare.log").exists()


@pytest.mark.parametrize("kind", VmmKind)
@pytest.mark.parametrize("saves", [True, False])
async def test_a_crowd_tells_what_its_engine_has(
    kind: VmmKind, saves: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A libkrun that saves no machines boots each; and KVM translates no code."""

    async def measured(whose: str, engine: VmmKind, count: int, seconds: float) -> Crowd:
        assert engine is kind
        return Crowd(1.0, [1024 * 1024] * count, [0] * count, [0.0] * count, 0, 0.0)

    monkeypatch.setattr(crowds, "_measure", measured)
    rows: list[Row] = []
    await crowds.measure(bench_of(tmp_path, saves=saves, kind=kind), rows.append)
    by_name = {row.name: row for row in rows}
    assert by_name.keys() == {"boxes_2_s", *crowds.IDLE_ROWS}
    boots = "each of which boots" in by_name["boxes_2_s"].method
    left_out = by_name["idle_code_mib"].method.startswith(LEFT_OUT)
    assert (boots, left_out) == (not saves, kind is VmmKind.KRUN)


async def test_the_command_says_why_an_engine_cannot_be_measured(home: Path) -> None:
    if krun_obstacle(await gather_facts()) is None:
        pytest.skip("libkrun can run machines here")
    result = await trio.to_thread.run_sync(CliRunner().invoke, main, ["boxes", "--engine", "krun"])
    assert result.exit_code == 1
    assert "the engine krun cannot run machines here" in result.output


def test_the_command_takes_one_size_of_a_run() -> None:
    result = CliRunner().invoke(main, ["boxes", "--quick", "--lab"])
    assert result.exit_code == 2
    assert "--quick and --lab exclude each other" in result.output


def test_rows_go_to_standard_output_alone_and_the_rest_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they have to where they come out of a machine that leaves nothing else."""

    async def measured(effort: Effort, only: object, say: Callable[[str], None], engine: VmmKind | None) -> list[Row]:
        say(f"engine {engine}, {effort.stream_mib} MiB")
        return [ONE]

    monkeypatch.setattr(plan, "measure", measured)
    result = CliRunner().invoke(main, ["boxes", "--engine", "krun", "--stream-mib", "3", "--json", "-"])
    assert from_json(json.loads(result.stdout)) == [ONE]
    assert "engine krun, 3 MiB" in result.stderr


async def test_a_restore_is_measured_beside_that_of_bare_qemu(home: Path) -> None:
    """On real machines, once: a box made from a template, and bare QEMU made from a snapshot of its own."""
    (row,) = await measure(ONCE, ["restore_first_output_p50"], engine=VmmKind.QEMU)
    assert row.value is not None, row.method
    assert row.limit is not None
    # Both boot nothing, and a box does all that bare QEMU does.
    assert row.limit < row.value < 60_000
