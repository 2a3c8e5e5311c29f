"""How machines begin, pause, part from their runtimes and end: one function a law, each with machines of its own."""

from __future__ import annotations

import signal

import pytest
import trio

from boxlite.errors import PortalLost, VmGone
from boxlite.portal.interface import CreditGate
from boxlite.vmm.process import VmExit
from tests.testing.conformance.subject import (
    PATIENCE,
    EngineBehaviour,
    Guest,
    Subject,
    Transcript,
    command,
    launched,
)


async def a_lost_connection_comes_back_and_commands_go_on(subject: Subject) -> None:
    """And a machine that the guest shuts down exits with 0."""
    async with launched(subject) as guest:
        start = command("sh", "-c", "echo before; sleep 2; echo after; exit 4")
        first = guest.session
        async with guest.running(start) as result:
            await result.until(lambda result: result.stdout == b"before\n")
        first.close()
        with trio.fail_after(PATIENCE):
            assert await first.wait_lost()
            guest.session = await guest.vm.connect()
        with pytest.raises(PortalLost):
            await first.ping()
        again = await guest.attach(start.execution_id, offset=7)
        assert again.exited is not None
        assert (bytes(again.stdout), again.exited.exit_code) == (b"after\n", 4)
        with trio.fail_after(PATIENCE):
            await guest.session.shutdown(1.0)
            assert await guest.vm.wait() == VmExit(code=0)
            assert await guest.session.wait_lost()
        assert guest.vm.exit == VmExit(code=0)


async def a_paused_machine_stands_still_until_it_is_resumed(subject: Subject) -> None:
    """And its power button ends it with code 0, where there is one; elsewhere it can be killed."""
    async with launched(subject) as guest:
        start = command("sh", "-c", "sleep 2; echo late")
        async with guest.running(start) as result:
            await guest.vm.pause()
            with trio.move_on_after(4):
                await guest.session.ping()
                raise AssertionError("a paused guest has answered")
            assert result.stdout == b""
            await guest.vm.resume()
            await result.until(lambda result: result.exited is not None)
        assert result.stdout == b"late\n"
        expected = VmExit(code=0)
        with trio.fail_after(PATIENCE):
            if subject.has_power_button:
                await guest.vm.press_power_button()
            else:
                with pytest.raises(OSError, match="no power button"):
                    await guest.vm.press_power_button()
                guest.vm.kill()
                expected = VmExit(signal=signal.SIGKILL)
            assert await guest.vm.wait() == expected
        for control in (guest.vm.pause, guest.vm.resume):
            with pytest.raises((OSError, BrokenPipeError)):
                await control()
        await guest.vm.press_power_button()


async def a_killed_machine_says_so_and_ends_every_call(subject: Subject) -> None:
    async with launched(subject) as guest:
        lost = trio.Event()

        async def run() -> None:
            with pytest.raises(PortalLost):
                await guest.session.execute(command("sleep", "1000"), Transcript().take, CreditGate())
            lost.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await guest.session.ping()
            guest.vm.kill(signal.SIGKILL)
            with trio.fail_after(PATIENCE):
                assert await guest.vm.wait() == VmExit(signal=signal.SIGKILL)
                await lost.wait()
                await guest.session.wait_lost()
        guest.vm.kill(signal.SIGKILL)


async def leaving_the_block_ends_a_machine_unless_it_was_released(subject: Subject) -> None:
    """A released one is adopted by the next engine with all that runs in it; then it is put down."""
    directory = subject.make_directory()
    start = command("sh", "-c", "echo one; sleep 1; echo two; sleep 1000")
    async with launched(subject, detached=True, directory=directory) as guest:
        record = guest.vm.record
        assert record.keeper is not None
        async with guest.running(start) as result:
            await result.until(lambda result: result.stdout == b"one\n")
        guest.vm.release()
    async with subject.open_engine() as engine:
        async with engine.adopt(record, directory=directory) as vm:
            assert vm.exit is None
            with trio.fail_after(PATIENCE):
                again = Guest(engine, vm, await vm.connect())
            async with again.attached(start.execution_id) as attached:
                await attached.until(lambda attached: attached.stdout == b"one\ntwo\n")
            vm.release()
        with trio.fail_after(PATIENCE):
            await engine.put_down(record, directory=directory)
            await engine.put_down(record, directory=directory)
            with pytest.raises(VmGone):
                async with engine.adopt(record, directory=directory):
                    pass
    async with launched(subject) as guest:
        vm = guest.vm
    assert vm.exit == VmExit(signal=signal.SIGKILL)


async def a_detached_machine_that_ends_while_nobody_looks_leaves_its_exit(subject: Subject) -> None:
    directory = subject.make_directory()
    async with launched(subject, detached=True, directory=directory) as guest:
        record = guest.vm.record
        await guest.session.shutdown(1.0)
        guest.vm.release()
    async with subject.open_engine() as engine:
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    async with engine.adopt(record, directory=directory) as vm:
                        await vm.wait()
                except VmGone:
                    break
            assert await engine.put_down(record, directory=directory) == VmExit(code=0)


LIVES: tuple[EngineBehaviour, ...] = (
    a_lost_connection_comes_back_and_commands_go_on,
    a_paused_machine_stands_still_until_it_is_resumed,
    a_killed_machine_says_so_and_ends_every_call,
    leaving_the_block_ends_a_machine_unless_it_was_released,
    a_detached_machine_that_ends_while_nobody_looks_leaves_its_exit,
)
