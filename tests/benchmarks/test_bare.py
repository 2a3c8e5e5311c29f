"""The bare machines that are the limit, on the real engines; where libkrun has no KVM, `make lab` runs its part."""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bare import krun
from benchmarks.bare.engines import make_ready_machines, open_bare_machine
from benchmarks.bare.krun_description import command_line
from benchmarks.bare.machine import BareParts, before_end
from benchmarks.boxes.bench import QUICK, Bench, make_bench
from benchmarks.processes import machines
from boxlite.vmm.engines import EngineChoice
from tests.vmm.obstacles import skip_without
from vmm_ffi.spec import AGENT_PORT, READY_PORT, Accelerator, PortSpec, VmmKind

PATIENCE = 120.0
STREAM = 2 * 1024 * 1024
ENGINE = EngineChoice(VmmKind.KRUN, Accelerator.KVM, None, False, None, Path("/kernel"), None, "", Path("/krun.so"))


@pytest.fixture(params=[VmmKind.QEMU, VmmKind.KRUN])
def kind(request: pytest.FixtureRequest) -> VmmKind:
    wanted: VmmKind = request.param
    skip_without(wanted)
    return wanted


@pytest.fixture
async def bench(kind: VmmKind, home: Path) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="boxlite-bare-") as directory:
        with trio.fail_after(PATIENCE):
            made = await make_bench(QUICK, Path(directory), kind)
        yield made


async def test_a_bare_machine_answers_streams_and_ends(bench: Bench) -> None:
    with trio.fail_after(PATIENCE):
        async with open_bare_machine(bench.parts, bench.work) as machine:
            assert machine.process.pid in machines()
            assert await machine.ask("echo") == b"x\n"
            await machine.stream_out(STREAM)
            await machine.stream_in(STREAM)
            # Nothing of the streams is left over.
            assert await machine.ask("echo") == b"x\n"
            await machine.power_off()
            assert machine.process.returncode == 0


async def test_machines_that_are_ready_answer_and_end_by_themselves(bench: Bench) -> None:
    """Copies of a saved one, where the engine has such. What they write is in none of the later ones."""
    with trio.fail_after(PATIENCE):
        open_ready = await make_ready_machines(bench.parts, bench.work)
        async with open_ready() as one, open_ready() as other:
            assert (await one.ask("echo"), await other.ask("echo")) == (b"x\n", b"x\n")
            await one.kill()
            assert await other.ask("echo") == b"x\n"
        async with open_ready() as third:
            assert await third.ask("echo") == b"x\n"
            await third.stream_out(STREAM)
            await third.stream_in(STREAM)
            await third.power_off()
            assert third.process.returncode == 0


@pytest.mark.parametrize("kind", [VmmKind.KRUN], indirect=True)
async def test_a_copy_that_has_nothing_to_begin_with_is_an_error_that_says_why(bench: Bench) -> None:
    """Not a machine that boots."""
    nothing = krun.BareSnapshot(bench.work / "nothing")
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionResetError, match=r"hung up, and said last: .+"):
        async with krun.restore_bare_machine(bench.parts, bench.work, nothing) as machine:
            await machine.ask("echo")


@pytest.mark.parametrize(("answer", "said"), [(b"ERR EIO no room\n", "ERR EIO no room"), (b"", "it hung up")])
async def test_a_machine_that_was_not_saved_is_an_error_that_says_why(
    short_path: Path, answer: bytes, said: str
) -> None:
    """Here, what refuses is no libkrun."""
    with trio.fail_after(PATIENCE), trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(str(short_path / "commands"))
        listening.listen()
        async with trio.open_nursery() as nursery:

            async def refuse() -> None:
                connection, _ = await listening.accept()
                with connection:
                    assert await connection.recv(4096) == b"SAVE %b/saved\n" % os.fsencode(short_path)
                    await connection.send(answer)

            nursery.start_soon(refuse)
            with pytest.raises(OSError, match=f"did not save the bare machine: {said}"):
                await krun.save(short_path / "commands", short_path / "saved")


async def test_a_machine_that_ends_at_once_is_an_error_that_says_why(bench: Bench) -> None:
    """Not a wait without end for its connection."""
    nowhere = attrs.evolve(bench.parts, kernel=bench.work / "nothing")
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionError, match=r"status 1|libkrun refuses krun_start_enter"):
        async with open_bare_machine(nowhere, bench.work):
            raise AssertionError("unreachable")


async def test_who_waits_for_something_hears_of_the_machines_end() -> None:
    """Also where nothing breaks by it, as where the machine has not connected yet."""

    async def wait_in_vain() -> str:
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(["true"])
        assert await before_end(process, wait_in_vain) is None


@given(st.text(), st.lists(st.text()))
def test_the_program_is_told_what_the_machine_is_whatever_its_paths_are(kernel: str, disks: list[str]) -> None:
    described = krun.describe(BareParts(ENGINE, Path(kernel), tuple(map(Path, disks))), ())
    told = command_line(described)[-1]
    assert told.isascii()
    call = ast.parse(told).body[-1]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    assert ast.literal_eval(call.value.args[0]) == described


def test_a_bare_machine_of_libkrun_has_vsock_where_the_agent_is_to_run_in_it() -> None:
    """And says so to it: it would look for other ports."""
    parts = BareParts(ENGINE, Path("/kernel"), (Path("/a"), Path("/b")), ("bench.python",))
    ports = PortSpec(AGENT_PORT, "/agent", served=True), PortSpec(READY_PORT, "/ready")
    with_agent, without = krun.describe(parts, ports), krun.describe(parts, ())
    assert with_agent["vsock"] == [(AGENT_PORT, "/agent", True), (READY_PORT, "/ready", False)]
    assert with_agent["kernel_arguments"].endswith(" boxlite.portal=vsock bench.python")
    assert without["vsock"] == []
    assert "portal" not in without["kernel_arguments"]
    assert with_agent["disks"] == ["/a", "/b"]
