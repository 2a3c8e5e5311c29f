"""`Box.exec` gives a live command: its streams as they come, its signals, and its end with all that belongs to it."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
import trio

import boxlite
from boxlite import Cancelled, Execution, Exited, Signalled, TimedOut
from boxlite.boxes.streams import WINDOW
from tests.boxes.guest_processes import PATIENCE, is_running, shell, wait_gone, wait_running
from tests.shared_box import SharedBox, in_shared_box

MIB = 1 << 20


async def read_all(stream: boxlite.ByteStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


@in_shared_box
async def test_lines_come_when_they_are_written(box: boxlite.Box) -> None:
    arrivals = []
    async with box.exec(shell("for i in 1 2 3; do echo $i; sleep 0.3; done")) as execution:
        async for line in execution.stdout.lines():
            arrivals.append((line, time.monotonic()))
        assert await execution.wait() == Exited(0)
    assert [line for line, _ in arrivals] == ["1", "2", "3"]
    assert arrivals[2][1] - arrivals[0][1] > 0.4


@in_shared_box
async def test_the_times_at_which_a_command_reached_its_stages_are_in_order(box: boxlite.Box) -> None:
    async with box.exec(shell("echo out; sleep 0.1")) as execution:
        assert await read_all(execution.stdout) == b"out\n"
        await execution.wait()
        times = execution.timings
    assert times.sent is not None
    assert times.started is not None
    assert times.first_output is not None
    assert times.ended is not None
    assert 0 <= times.sent <= times.started <= times.first_output <= times.ended


@in_shared_box
async def test_the_two_outputs_are_apart_or_merged(box: boxlite.Box) -> None:
    async with box.exec(shell("echo out; echo err >&2")) as execution:
        assert await read_all(execution.stderr) == b"err\n"
        assert await read_all(execution.stdout) == b"out\n"
    async with box.exec(shell("echo out; echo err >&2"), stderr=subprocess.STDOUT) as execution:
        assert await read_all(execution.stdout) == b"out\nerr\n"
        assert await read_all(execution.stderr) == b""


@in_shared_box
async def test_the_end_comes_after_all_output(box: boxlite.Box) -> None:
    async with box.exec(shell("echo out; exit 5")) as execution:
        assert await execution.wait() == Exited(5)
        assert await read_all(execution.stdout) == b"out\n"


@in_shared_box
async def test_text_never_splits_a_character(box: boxlite.Box) -> None:
    script = r"for i in 1 2 3; do printf '\342'; sleep 0.1; printf '\202\254'; done"
    async with box.exec(shell(script)) as execution:
        pieces = [piece async for piece in execution.stdout.text()]
    assert "".join(pieces) == "€€€"
    assert set(pieces) <= {"€", "€€", "€€€"}


@in_shared_box
async def test_what_a_running_execution_says_of_itself(box: boxlite.Box) -> None:
    async with box.exec(shell("echo $$; sleep 60")) as execution:
        assert execution.pid == int(await execution.stdout.receive_some())
        assert (execution.outcome, execution.duration) == (None, None)
        assert repr(execution) == f"<Execution {execution.id} of b'sh' in box {box.name}: running>"


@in_shared_box
async def test_what_an_ended_execution_says_of_itself(box: boxlite.Box) -> None:
    async with box.exec(["sleep", "0.2"]) as execution:
        assert await execution.wait() == Exited(0)
        assert execution.outcome == Exited(0)
        assert execution.duration is not None
        assert 0.15 < execution.duration < PATIENCE
        assert repr(execution) == f"<Execution {execution.id} of b'sleep' in box {box.name}: exited with code 0>"


@in_shared_box
async def test_a_command_that_does_not_exist_has_no_pid(box: boxlite.Box) -> None:
    async with box.exec(["nope"]) as execution:
        assert await execution.wait() == Exited(127)
        assert execution.pid is None


@in_shared_box
async def test_a_signal_goes_to_the_whole_group(box: boxlite.Box) -> None:
    async with box.exec(shell("sleep 62001 & echo up; sleep 62001")) as execution:
        await execution.stdout.receive_some()
        await execution.kill()
        assert await execution.wait() == Signalled(signal.SIGKILL)
    assert not await is_running(box, "sleep 62001")


@in_shared_box
async def test_a_command_may_handle_a_signal(box: boxlite.Box) -> None:
    script = "trap 'echo caught; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    async with box.exec(shell(script)) as execution:
        assert await execution.stdout.receive_some() == b"up\n"
        await execution.kill(signal.SIGTERM)
        assert (await read_all(execution.stdout), await execution.wait()) == (b"caught\n", Exited(3))


@in_shared_box
async def test_a_number_that_is_no_signal_is_a_mistake(box: boxlite.Box) -> None:
    async with box.exec(["sleep", "60"]) as execution:
        for number in (0, -9, 65):
            with pytest.raises(ValueError, match="no signal"):
                await execution.kill(number)


@in_shared_box
async def test_a_timeout_is_an_outcome(box: boxlite.Box) -> None:
    async with box.exec(shell("echo begun; sleep 60"), timeout=0.5) as execution:
        assert await read_all(execution.stdout) == b"begun\n"
        assert await execution.wait() == TimedOut()


def test_a_slow_reader_does_not_make_a_command_time_out(shared_box: SharedBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends in time; that its output waits for its reader until after the timeout is another matter."""
    monkeypatch.setattr("boxlite.boxes.following.GUEST_GRACE", 0.5)

    async def test(box: boxlite.Box) -> None:
        async with box.exec(["head", "-c", str(WINDOW + 50_000), "/dev/zero"], timeout=4) as execution:
            await trio.sleep(5)
            assert len(await read_all(execution.stdout)) == WINDOW + 50_000
            assert await execution.wait() == Exited(0)

    shared_box.run(test)


@in_shared_box
async def test_any_number_of_tasks_may_wait(box: boxlite.Box) -> None:
    outcomes: list[boxlite.Outcome] = []
    async with box.exec(["sleep", "0.3"]) as execution, trio.open_nursery() as nursery:
        for _ in range(5):

            @nursery.start_soon
            async def wait(execution: Execution = execution) -> None:
                outcomes.append(await execution.wait())

    assert outcomes == [Exited(0)] * 5


@in_shared_box
async def test_leaving_the_block_stops_the_whole_process_group(box: boxlite.Box) -> None:
    async with box.exec(shell("sleep 62002 & echo up; sleep 62002")) as execution:
        await execution.stdout.receive_some()
    assert not await is_running(box, "sleep 62002")
    assert execution.outcome == Cancelled()


@in_shared_box
async def test_leaving_by_an_error_stops_it_too_and_the_error_comes_out_as_it_is(box: boxlite.Box) -> None:
    with pytest.raises(ZeroDivisionError):
        async with box.exec(["sleep", "62003"]):
            raise ZeroDivisionError
    assert not await is_running(box, "sleep 62003")


@in_shared_box
async def test_leaving_by_a_cancellation_stops_it_too(box: boxlite.Box) -> None:
    with trio.CancelScope() as scope:
        async with box.exec(["sleep", "62004"]):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not await is_running(box, "sleep 62004")


@in_shared_box
async def test_leaving_stops_what_an_ended_command_left_in_its_group(box: boxlite.Box) -> None:
    async with box.exec(shell("sleep 62005 >/dev/null 2>&1 & echo up")) as execution:
        assert await execution.wait() == Exited(0)
        await wait_running(box, "sleep 62005")
    await wait_gone(box, "sleep 62005")
    assert execution.outcome == Exited(0)


@in_shared_box
async def test_what_was_left_in_the_group_is_found_after_many_other_commands(box: boxlite.Box) -> None:
    """A server that was started in a block, used by many commands, and stopped at the block's end."""
    async with box.exec(shell("sleep 62006 >/dev/null 2>&1 & echo up")) as execution:
        await execution.wait()
        for _ in range(70):
            await box.run(["true"])
    await wait_gone(box, "sleep 62006")


@in_shared_box
async def test_a_daemon_that_left_the_group_is_neither_waited_for_nor_killed(box: boxlite.Box) -> None:
    """It even keeps the output open."""
    async with box.exec(shell("setsid sleep 62007 & sleep 0.2; echo up")) as execution:
        assert await read_all(execution.stdout) == b"up\n"
        assert await execution.wait() == Exited(0)
    await wait_running(box, "sleep 62007")
    await box.run(["killall", "sleep"])


@in_shared_box
async def test_the_group_can_be_stopped_when_the_command_ends(box: boxlite.Box) -> None:
    script = "sleep 62008 & echo up"
    async with box.exec(shell(script), stop_group_on_exit=True) as execution:
        assert await execution.wait() == Exited(0)
    async with box.exec(shell(script)) as execution:
        with trio.move_on_after(0.5):
            await execution.wait()
        assert execution.outcome is None


@in_shared_box
async def test_after_the_block_everything_answers_at_once(box: boxlite.Box) -> None:
    async with box.exec(["cat"], tty=True) as execution:
        pass
    with trio.fail_after(1):
        assert await execution.wait() == Cancelled()
        await execution.kill()
        await execution.resize_tty(10, 10)
        with pytest.raises(trio.ClosedResourceError):
            await execution.stdout.receive_some()


@in_shared_box
async def test_what_an_ended_command_wrote_can_be_read_after_the_block(box: boxlite.Box) -> None:
    async with box.exec(["echo", "late"]) as execution:
        await execution.wait()
    assert await read_all(execution.stdout) == b"late\n"


@in_shared_box
async def test_an_unread_stream_waits_without_delaying_anything_else(box: boxlite.Box) -> None:
    """64 MiB that nobody reads: the host holds one window of them, the command waits, others run and end."""
    async with box.exec(["head", "-c", str(64 * MIB), "/dev/zero"]) as unread:
        with trio.fail_after(PATIENCE):
            while unread.stdout.received < WINDOW:  # noqa: ASYNC110
                await trio.sleep(0.05)
            for _ in range(3):
                await box.run(["true"])
            assert len((await box.run(["head", "-c", str(2 * MIB), "/dev/zero"])).stdout or b"") == 2 * MIB
        assert unread.outcome is None
        assert unread.stdout.received == WINDOW


@in_shared_box
async def test_an_unread_stdout_does_not_stall_stderr(box: boxlite.Box) -> None:
    script = f"head -c {4 * MIB} /dev/zero & head -c {2 * MIB} /dev/zero >&2; echo end >&2; wait"
    async with box.exec(shell(script)) as execution:
        received = 0
        while received < 2 * MIB + 4:
            received += len(await execution.stderr.receive_some())
        assert execution.outcome is None
        assert len(await read_all(execution.stdout)) == 4 * MIB
        assert await execution.wait() == Exited(0)


@in_shared_box
async def test_both_streams_at_once_are_complete(box: boxlite.Box) -> None:
    sizes = {}

    async def measure(name: str, stream: boxlite.ByteStream) -> None:
        sizes[name] = sum([len(chunk) async for chunk in stream])

    script = f"head -c {3 * MIB} /dev/zero & head -c {5 * MIB} /dev/zero >&2; wait"
    async with box.exec(shell(script)) as execution, trio.open_nursery() as nursery:
        nursery.start_soon(measure, "stdout", execution.stdout)
        nursery.start_soon(measure, "stderr", execution.stderr)
    assert sizes == {"stdout": 3 * MIB, "stderr": 5 * MIB}


@in_shared_box
async def test_a_closed_stream_lets_the_command_go_on(box: boxlite.Box) -> None:
    async with box.exec(shell(f"head -c {4 * MIB} /dev/zero; echo done >&2")) as execution:
        await execution.stdout.aclose()
        assert await read_all(execution.stderr) == b"done\n"
        assert await execution.wait() == Exited(0)
