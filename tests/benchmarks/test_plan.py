"""What is measured, and what becomes of a measurement that fails. The last tests measure real machines."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from click.testing import CliRunner
from trio.testing import MockClock

from benchmarks.__main__ import main
from benchmarks.boxes.bench import FULL, QUICK, Effort, Emit
from benchmarks.boxes.plan import choose, guard, measure, sections
from benchmarks.rows import Row

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


def test_a_full_run_gives_every_row_that_is_promised() -> None:
    assert {name for section in sections(FULL) for name in section.rows} >= PROMISED


def test_samples_scale_and_one_of_each_is_left() -> None:
    """For machines that are twenty times slower. The crowds are what they are."""
    assert FULL.scaled(0.5).restores == FULL.restores // 2
    least = FULL.scaled(0.001)
    assert {least.cold, least.restores, least.pooled, least.executions, least.streams, least.agents, least.ends} == {1}
    assert least.crowds == FULL.crowds


@pytest.mark.parametrize("effort", [FULL, QUICK], ids=["full", "quick"])
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


async def test_a_restore_is_measured_beside_that_of_bare_qemu(home: Path) -> None:
    """On real machines, once: a box made from a template, and bare QEMU made from a snapshot of its own."""
    (row,) = await measure(ONCE, ["restore_first_output_p50"])
    assert row.value is not None, row.method
    assert row.limit is not None
    # Both boot nothing, and a box does all that bare QEMU does.
    assert row.limit < row.value < 60_000
