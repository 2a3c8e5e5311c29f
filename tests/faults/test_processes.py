"""A process that boxes depend on is killed or frozen: the machine, its keeper, the zygote, the shim."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

import boxlite
from boxlite import BoxChange, BoxEvent, BoxState
from boxlite.vmm.kept import read_record
from boxlite.vmm.process import VmProcess
from boxlite.vmm.zygote import Zygote
from tests.leftovers import machines, nothing_left
from tests.vmm.processes import alive, children, until
from vmm_ffi.spec import InstanceSpec, Keep, VmRecord

LIMIT = 120
IMAGE = "builtin/python"


async def start(*boxes: boxlite.Box) -> None:
    async with trio.open_nursery() as nursery:
        for box in boxes:
            nursery.start_soon(box.start)


async def pid_of(box: boxlite.Box) -> int:
    pid = (await box.status()).pid
    assert pid is not None
    return pid


def zygotes() -> set[int]:
    """Of all runtimes of this process; the box that tests share has one, too."""
    return {
        child for child in children(os.getpid()) if b"vmm_ffi.zygote" in Path(f"/proc/{child}/cmdline").read_bytes()
    }


async def test_a_machine_that_is_killed_is_started_again_by_its_policy(own_home: Path, sockets: Path) -> None:
    """What ran in it gets `VmDied`, the box is failed with the cause, then runs again with the disk that it had."""
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with boxlite.open_runtime() as runtime, runtime.open_box(IMAGE, restart="always", disk_mib=64) as box:
            await box.run(["sh", "-c", "echo before > /kept && sync"])
            first = await pid_of(box)
            async with runtime.events() as events, box.exec(["sleep", "1000"]) as execution:
                os.kill(first, signal.SIGKILL)
                assert await execution.wait() == boxlite.VmDied("its process was killed by SIGKILL")
                seen: list[BoxChange] = []
                async for event in events:
                    assert isinstance(event, BoxChange)
                    seen.append(event)
                    if event.event is BoxEvent.READY:
                        break
            assert [event.event for event in seen] == [BoxEvent.DIED, BoxEvent.START, BoxEvent.READY]
            assert "SIGKILL" in seen[0].cause
            assert (await box.run(["cat", "/kept"])).stdout == b"before\n"
            assert (await box.status()).restarts == 1
            assert await pid_of(box) != first


async def test_without_its_zygote_a_runtime_starts_no_machine_and_detached_ones_run_on(
    own_home: Path, sockets: Path
) -> None:
    """The others die at once, and say why; the next runtime starts them again."""
    others = zygotes()
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with boxlite.open_runtime() as runtime:
            (zygote,) = zygotes() - others
            plain = await runtime.create(IMAGE, name="plain", disk_mib=64)
            kept = await runtime.create(IMAGE, name="kept", disk_mib=64, detached=True)
            await start(plain, kept)
            pid = await pid_of(kept)
            os.kill(zygote, signal.SIGKILL)
            with trio.fail_after(10):
                assert (await plain.wait()).state is BoxState.FAILED
            await until(lambda: machines(sockets) == {pid}, 2)
            assert (await kept.run(["echo", "on"])).stdout == b"on\n"
            with pytest.raises(boxlite.ZygoteError, match="the zygote was killed by SIGKILL"):
                await plain.start()
            assert (await plain.status()).state is BoxState.FAILED
        async with boxlite.open_runtime() as runtime:
            plain, kept = [await runtime.get(name) for name in ("plain", "kept")]
            assert await pid_of_adopted(kept) == pid
            await plain.start()
            for box in (plain, kept):
                await box.remove(force=True)


async def pid_of_adopted(box: boxlite.Box) -> int:
    """After a command in it has shown that it was taken over."""
    await box.run(["true"])
    return await pid_of(box)


async def test_a_detached_machine_dies_with_its_keeper_and_its_box_says_that_nobody_knows_how(
    own_home: Path, sockets: Path
) -> None:
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with (
            boxlite.open_runtime() as runtime,
            runtime.open_box(IMAGE, name="kept", disk_mib=64, detached=True) as box,
        ):
            await box.start()
            record = read_record(own_home / "boxes" / (await box.status()).id)
            assert record is not None
            assert record.keeper is not None
            os.kill(record.keeper.pid, signal.SIGKILL)
            with trio.fail_after(10):
                status = await box.wait()
            assert status.state is BoxState.FAILED
            assert "was killed because the process that watched it ended" in status.cause
            assert not alive(record.process.pid)


async def test_a_frozen_machine_holds_nobody_longer_than_they_want(
    own_home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command waits until its caller gives up, and a little for its own kill. A pause is refused; stop and removal
    end it, by SIGKILL at last."""
    monkeypatch.setattr("boxlite.boxes.execution.STOP_GRACE", 1.0)
    monkeypatch.setattr("boxlite.boxes.ending.SHUTDOWN_SECONDS", 1.0)
    for module in ("ending", "control"):
        monkeypatch.setattr(f"boxlite.boxes.{module}.CONTROL_SECONDS", 1.0)
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with boxlite.open_runtime() as runtime:
            stopped = await runtime.create(IMAGE, name="stopped", disk_mib=64)
            removed = await runtime.create(IMAGE, name="removed", disk_mib=64, detached=True)
            await start(stopped, removed)
            for box in (stopped, removed):
                os.kill(await pid_of(box), signal.SIGSTOP)
            with trio.fail_after(3):
                with trio.move_on_after(1) as scope:
                    await stopped.run(["true"])
                assert scope.cancelled_caught
            with pytest.raises(boxlite.BoxUnresponsive, match=r"does not pause: no answer: stop\(\) ends it"):
                await stopped.pause()
            with trio.fail_after(10):
                await stopped.stop(grace=0.5)
                await removed.remove(force=True)
            assert (await stopped.status()).state is BoxState.STOPPED
            assert machines(sockets) == frozenset()
            await stopped.remove()


@pytest.mark.parametrize("detached", [False, True], ids=["plain", "detached"])
async def test_a_shim_that_is_killed_before_it_is_a_machine_fails_the_start(
    own_home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch, detached: bool
) -> None:
    spawn, spawn_kept = Zygote.spawn, Zygote.spawn_kept

    async def spawn_and_kill(self: Zygote, spec: InstanceSpec) -> VmProcess:
        process = await spawn(self, spec)
        os.kill(process.identity.pid, signal.SIGKILL)
        return process

    async def spawn_kept_and_kill(self: Zygote, spec: InstanceSpec, keep: Keep) -> VmRecord:
        record = await spawn_kept(self, spec, keep)
        os.kill(record.process.pid, signal.SIGKILL)
        return record

    monkeypatch.setattr(Zygote, "spawn", spawn_and_kill)
    monkeypatch.setattr(Zygote, "spawn_kept", spawn_kept_and_kill)
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with boxlite.open_runtime() as runtime:
            box = await runtime.create(IMAGE, name="b", disk_mib=64, detached=detached)
            with pytest.raises(boxlite.BootFailed, match="was killed by SIGKILL before the guest was ready"):
                await box.start()
            status = await box.status()
            assert status.state is BoxState.FAILED
            assert "SIGKILL" in status.cause
            await box.remove()
