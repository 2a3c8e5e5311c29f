"""How a guest's agent treats commands, whatever carries the calls: one function a law, for a machine that is up."""

from __future__ import annotations

import signal

import pytest
import trio

from boxlite.errors import ExecutionNotFound, GuestRefused
from boxlite.portal.interface import CreditGate
from proto.boxlite.v1 import Credit, Disk, StartFailure, StdinMode
from tests.testing.conformance.subject import UNLIMITED, Behaviour, Guest, Transcript, command

KEPT = 1 << 20


async def what_is_called_once_is_refused_the_second_time(guest: Guest) -> None:
    with pytest.raises(GuestRefused):
        await guest.session.init_guest(unix_time_ns=0, entropy=b"", disks=[Disk(serial="image", read_only=True)])
    with pytest.raises(GuestRefused):
        await guest.session.init_container(
            image_disk="image", scratch_disk="scratch", hostname="box", machine_id="0" * 32
        )


async def a_ping_brings_its_payload_back(guest: Guest) -> None:
    reply = await guest.session.ping(b"payload")
    assert (reply.payload, reply.protocol) == (b"payload", 1)
    assert (await guest.session.ping()).uptime_ns >= reply.uptime_ns


async def both_outputs_come_complete_and_then_the_exit(guest: Guest) -> None:
    result = await guest.run("sh", "-c", "echo out; echo err >&2; exit 5")
    assert (bytes(result.stdout), bytes(result.stderr)) == (b"out\n", b"err\n")
    assert result.exited is not None
    assert (result.exited.exit_code, result.exited.signal, result.exited.timed_out) == (5, 0, False)


async def merged_outputs_come_in_order(guest: Guest) -> None:
    result = await guest.run("sh", "-c", "echo out; echo err >&2; echo end", merge_stderr=True)
    assert (bytes(result.stdout), bytes(result.stderr)) == (b"out\nerr\nend\n", b"")


async def a_command_that_does_not_exist_exits_with_127(guest: Guest) -> None:
    result = await guest.run("no-such-program")
    assert result.exited is not None
    assert (result.pid, result.exited.exit_code) == (0, 127)
    assert result.exited.message
    assert result.stderr.startswith(b"boxlite: ")


async def what_cannot_start_says_why(guest: Guest) -> None:
    used = command("true")
    await guest.session.execute(used, Transcript().take, CreditGate())
    for fields, reason in (
        ({"cwd": b"/missing"}, StartFailure.WORKDIR),
        ({"user": "nobody-like-this"}, StartFailure.USER),
        ({"execution_id": "not an id"}, StartFailure.INVALID),
        ({"execution_id": used.execution_id}, StartFailure.INVALID),
        ({"argv": []}, StartFailure.INVALID),
        ({"argv": [b"true", b"x" * (3 << 20)]}, StartFailure.TOO_LONG),
    ):
        result = await guest.run("true", **fields)
        assert result.failed is not None, fields
        assert result.failed.reason is reason


async def a_signal_ends_a_command_and_is_its_outcome(guest: Guest) -> None:
    by_itself = await guest.run("sh", "-c", "kill -9 $$")
    assert by_itself.exited is not None
    assert by_itself.exited.signal == signal.SIGKILL
    start = command("sleep", "1000")
    async with guest.running(start) as result:
        assert await guest.session.kill(start.execution_id, signal.SIGTERM)
        await result.until(lambda result: result.exited is not None)
    assert result.exited is not None
    assert result.exited.signal == signal.SIGTERM
    assert not await guest.session.kill(start.execution_id, signal.SIGTERM)


async def an_ignored_signal_changes_nothing(guest: Guest) -> None:
    start = command("sh", "-c", "trap '' TERM; echo ready; sleep 1000")
    async with guest.running(start) as result:
        await result.until(lambda result: result.stdout == b"ready\n")
        assert await guest.session.kill(start.execution_id, signal.SIGTERM)
        await guest.session.ping()
        assert not result.over
        assert await guest.session.kill(start.execution_id, signal.SIGKILL)
        await result.until(lambda result: result.exited is not None)
    assert result.exited is not None
    assert result.exited.signal == signal.SIGKILL


async def a_timeout_kills_and_says_so(guest: Guest) -> None:
    result = await guest.run("sleep", "1000", timeout_ms=200)
    assert result.exited is not None
    assert result.exited.timed_out
    assert result.exited.duration_ns >= 200_000_000


async def no_more_is_sent_than_was_credited(guest: Guest) -> None:
    gate = CreditGate()
    start = command("seq", "1", "100000", credit=Credit(stdout_limit=1000, stderr_limit=1000))
    async with guest.running(start, gate) as result:
        await result.until(lambda result: len(result.stdout) == 1000)
        await guest.session.ping()
        assert len(result.stdout) == 1000
        gate.raise_limits(stdout=2500, stderr=1000)
        await result.until(lambda result: len(result.stdout) == 2500)
        gate.raise_limits(stdout=UNLIMITED, stderr=UNLIMITED)
        await result.until(lambda result: result.exited is not None)
    assert bytes(result.stdout) == numbers(100000)


async def input_is_taken_once_whatever_is_sent_again(guest: Guest) -> None:
    start = command("cat", stdin=StdinMode.PIPE, input=b"first ")
    async with guest.running(start) as result:
        await result.until(lambda result: result.stdout == b"first ")
        call = guest.session.open_input(start.execution_id)
        assert await call.send(0, b"first second ") is None
        assert (await call.finish(13, eof=False)).accepted == 13
        with pytest.raises(GuestRefused):
            await guest.session.open_input(start.execution_id).finish(99, eof=False)
        last = guest.session.open_input(start.execution_id)
        assert await last.send(13, b"third") is None
        assert (await last.finish(18, eof=True)).accepted == 18
        await result.until(lambda result: result.exited is not None)
    assert bytes(result.stdout) == b"first second third"


async def input_for_a_command_that_has_ended_is_a_broken_pipe(guest: Guest) -> None:
    start = command("true", stdin=StdinMode.PIPE)
    await guest.session.execute(start, Transcript().take, CreditGate())
    assert (await guest.session.open_input(start.execution_id).finish(0, eof=True)).broken_pipe


async def input_without_an_input_is_refused(guest: Guest) -> None:
    start = command("sleep", "1000")
    async with guest.running(start):
        with pytest.raises(GuestRefused):
            await guest.session.open_input(start.execution_id).finish(0, eof=True)
        await guest.session.kill(start.execution_id, signal.SIGKILL)


async def an_ended_execution_can_still_be_attached_to(guest: Guest) -> None:
    start = command("sh", "-c", "echo hello; exit 3")
    await guest.session.execute(start, Transcript().take, CreditGate())
    for offset in (0, 2, 6):
        again = await guest.attach(start.execution_id, offset)
        assert again.exited is not None
        assert (bytes(again.stdout), again.exited.exit_code) == (b"hello\n"[offset:], 3)
    with pytest.raises(GuestRefused):
        await guest.attach(start.execution_id, 7)


async def the_later_of_two_followers_gets_the_output(guest: Guest) -> None:
    start = command("cat", stdin=StdinMode.PIPE)
    async with guest.running(start) as before, trio.open_nursery() as nursery:
        later: list[Transcript] = []

        async def attach() -> None:
            later.append(await guest.attach(start.execution_id))

        nursery.start_soon(attach)
        with trio.fail_after(30):
            await before.changed.wait()
        call = guest.session.open_input(start.execution_id)
        await call.send(0, b"text")
        await call.finish(4, eof=True)
    assert (bytes(before.stdout), bytes(later[0].stdout)) == (b"", b"text")


async def what_nobody_follows_runs_on_and_keeps_its_newest_output(guest: Guest) -> None:
    start = command("seq", "1", "400000", credit=Credit(stdout_limit=100, stderr_limit=0))
    async with guest.running(start):
        pass
    await guest.until_ended(start.execution_id)
    whole = numbers(400000)
    (info,) = [info for info in await guest.session.executions() if info.execution_id == start.execution_id]
    assert (info.stdout_start, info.stdout_end, info.followed) == (len(whole) - KEPT, len(whole), False)
    rest = await guest.attach(start.execution_id, 50)
    assert (rest.first_offset, bytes(rest.stdout)) == (len(whole) - KEPT, whole[-KEPT:])


async def an_unknown_execution_is_not_found(guest: Guest) -> None:
    with pytest.raises(ExecutionNotFound):
        await guest.attach("unknown")
    with pytest.raises(ExecutionNotFound):
        await guest.session.kill("unknown", signal.SIGTERM)
    with pytest.raises(ExecutionNotFound):
        await guest.session.open_input("unknown").finish(0, eof=True)


async def only_a_terminal_has_a_size(guest: Guest) -> None:
    start = command("sleep", "1000")
    async with guest.running(start):
        with pytest.raises(GuestRefused):
            await guest.session.resize_tty(start.execution_id, 1, 1)
        await guest.session.kill(start.execution_id, signal.SIGKILL)


async def the_clock_can_be_set(guest: Guest) -> None:
    await guest.session.set_clock(1_800_000_000 * 10**9)
    date = int((await guest.run("date", "+%s")).stdout)
    assert 1_800_000_000 <= date < 1_800_000_060


COMMANDS: tuple[Behaviour, ...] = (
    what_is_called_once_is_refused_the_second_time,
    a_ping_brings_its_payload_back,
    both_outputs_come_complete_and_then_the_exit,
    merged_outputs_come_in_order,
    a_command_that_does_not_exist_exits_with_127,
    what_cannot_start_says_why,
    a_signal_ends_a_command_and_is_its_outcome,
    an_ignored_signal_changes_nothing,
    a_timeout_kills_and_says_so,
    no_more_is_sent_than_was_credited,
    input_is_taken_once_whatever_is_sent_again,
    input_for_a_command_that_has_ended_is_a_broken_pipe,
    input_without_an_input_is_refused,
    an_ended_execution_can_still_be_attached_to,
    the_later_of_two_followers_gets_the_output,
    what_nobody_follows_runs_on_and_keeps_its_newest_output,
    an_unknown_execution_is_not_found,
    only_a_terminal_has_a_size,
    the_clock_can_be_set,
)


def numbers(last: int) -> bytes:
    """What `seq 1 LAST` prints."""
    return "".join(f"{number}\n" for number in range(1, last + 1)).encode()
