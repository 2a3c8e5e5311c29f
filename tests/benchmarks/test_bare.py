"""The bare machines that are the limit, on real QEMU."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from benchmarks.bare.machine import launch, make_bare_snapshot, open_bare_machine, restore_bare_machine
from benchmarks.boxes.bench import QUICK, Bench, make_bench

PATIENCE = 120.0


@pytest.fixture
async def bench(home: Path) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="boxlite-bare-") as directory:
        with trio.fail_after(PATIENCE):
            made = await make_bench(QUICK, Path(directory))
        yield made


async def test_a_bare_machine_answers_streams_and_ends(bench: Bench) -> None:
    with trio.fail_after(PATIENCE):
        async with open_bare_machine(bench.parts, bench.work) as machine:
            assert await machine.ask("echo") == b"x\n"
            await machine.stream_out()
            await machine.stream_in()
            # Nothing of the streams is left over.
            assert await machine.ask("echo") == b"x\n"
            await machine.power_off()
            assert machine.process.returncode == 0


async def test_copies_of_a_saved_machine_go_on_where_it_was(bench: Bench) -> None:
    with trio.fail_after(PATIENCE):
        snapshot = await make_bare_snapshot(bench.parts, bench.work)
        async with (
            restore_bare_machine(bench.parts, bench.work, snapshot) as one,
            restore_bare_machine(bench.parts, bench.work, snapshot) as other,
        ):
            assert (await one.ask("echo"), await other.ask("echo")) == (b"x\n", b"x\n")
            await one.kill()
            assert await other.ask("echo") == b"x\n"


async def test_a_qemu_that_ends_at_once_is_an_error(bench: Bench) -> None:
    """Not a wait without end for its connection."""
    nowhere = attrs.evolve(bench.parts, kernel=bench.work / "nothing")
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionError, match="has ended with status 1"):
        async with launch(nowhere, bench.work):
            raise AssertionError("unreachable")
