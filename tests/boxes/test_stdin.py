"""A command's standard input: bytes at the command's own pace, and a real end of file."""

from __future__ import annotations

import subprocess

import pytest
import trio

import boxlite
from boxlite import Execution, Exited, InputStream
from tests.boxes.guest_processes import shell
from tests.shared_box import in_shared_box

MIB = 1 << 20


def stdin_of(execution: Execution) -> InputStream:
    assert execution.stdin is not None
    return execution.stdin


async def read_all(execution: Execution) -> bytes:
    return b"".join([chunk async for chunk in execution.stdout])


@in_shared_box
async def test_closing_it_is_the_end_of_file(box: boxlite.Box) -> None:
    async with box.exec(["cat"]) as execution:
        await stdin_of(execution).send_all(b"abc")
        await stdin_of(execution).send_all(b"def")
        assert execution.outcome is None
        await stdin_of(execution).aclose()
        assert await read_all(execution) == b"abcdef"
        assert await execution.wait() == Exited(0)


@in_shared_box
async def test_a_conversation(box: boxlite.Box) -> None:
    """Each answer comes while the input is still open."""
    async with box.exec(["cat"]) as execution:
        for word in (b"one", b"two", b"three"):
            await stdin_of(execution).send_all(word)
            assert await execution.stdout.receive_some() == word


@in_shared_box
async def test_no_input_was_asked_for(box: boxlite.Box) -> None:
    async with box.exec(["cat"], stdin=subprocess.DEVNULL) as execution:
        assert execution.stdin is None
        assert await execution.wait() == Exited(0)


@in_shared_box
async def test_sending_waits_for_a_command_that_does_not_read(box: boxlite.Box) -> None:
    """What has not been read is not taken: 64 MiB do not fit between host and command. A cancelled send leaves the
    stream in order: the end of file still comes, and the command saw a beginning of what was sent."""
    gated = "mkfifo /tmp/gate; echo ready; read _ < /tmp/gate; rm /tmp/gate; wc -c"
    async with box.exec(shell(gated)) as execution:
        assert await execution.stdout.receive_some() == b"ready\n"
        with trio.move_on_after(0.5) as patience:
            await stdin_of(execution).send_all(bytes(64 * MIB))
        assert patience.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stdin_of(execution).aclose)
            await box.run(shell("echo go > /tmp/gate"))
        assert 0 < int(await read_all(execution)) <= MIB
        assert await execution.wait() == Exited(0)


@in_shared_box
async def test_after_a_cancelled_send_the_next_one_goes_on(box: boxlite.Box) -> None:
    """Some beginning of the cancelled bytes, then all of the next ones, each once."""
    async with box.exec(shell("sleep 1; cat")) as execution:
        with trio.move_on_after(0.3) as patience:
            await stdin_of(execution).send_all(b"a" * (4 * MIB))
        assert patience.cancelled_caught
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send_the_rest() -> None:
                await stdin_of(execution).send_all(b"b" * MIB)
                await stdin_of(execution).aclose()

            received = await read_all(execution)
        assert received.lstrip(b"a") == b"b" * MIB
        assert len(received) < 5 * MIB


@in_shared_box
async def test_a_command_that_closed_its_input_breaks_it(box: boxlite.Box) -> None:
    async with box.exec(shell("exec <&-; echo closed; sleep 60")) as execution:
        assert await execution.stdout.receive_some() == b"closed\n"
        with pytest.raises(trio.BrokenResourceError, match="no longer reads"):
            # The first bytes may be on their way before the answer comes.
            await stdin_of(execution).send_all(b"x" * (8 * MIB))
        await stdin_of(execution).aclose()


@in_shared_box
async def test_a_command_that_has_ended_breaks_it(box: boxlite.Box) -> None:
    async with box.exec(["true"]) as execution:
        await execution.wait()
        with pytest.raises(trio.BrokenResourceError):
            await stdin_of(execution).send_all(b"x" * MIB)
        await stdin_of(execution).aclose()


@in_shared_box
async def test_a_send_that_waits_ends_with_the_command(box: boxlite.Box) -> None:
    async with box.exec(["sleep", "60"]) as execution, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stdin_of(execution).send_all(b"x" * (4 * MIB))

        await trio.sleep(0.3)
        await execution.kill()


@in_shared_box
async def test_a_send_in_a_task_outside_ends_when_the_block_is_left(box: boxlite.Box) -> None:
    async with trio.open_nursery() as nursery:  # noqa: SIM117 - the order is what is tested
        async with box.exec(["sleep", "60"]) as execution:

            @nursery.start_soon
            async def send() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await stdin_of(execution).send_all(b"x" * (4 * MIB))

            await trio.sleep(0.3)


@in_shared_box
async def test_nothing_can_be_sent_after_the_end(box: boxlite.Box) -> None:
    async with box.exec(["cat"]) as execution:
        await stdin_of(execution).aclose()
        await stdin_of(execution).aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stdin_of(execution).send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await stdin_of(execution).wait_send_all_might_not_block()


@in_shared_box
async def test_closing_ends_a_send_in_another_task(box: boxlite.Box) -> None:
    """As every Trio stream does; the command gets the end of file all the same."""
    async with box.exec(shell("sleep 1; wc -c")) as execution, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stdin_of(execution).send_all(b"x" * (4 * MIB))

        await trio.sleep(0.3)
        await stdin_of(execution).aclose()
        assert 0 < int(await read_all(execution)) < 4 * MIB


@in_shared_box
async def test_two_senders_at_once_are_a_mistake(box: boxlite.Box) -> None:
    async with box.exec(["sleep", "60"]) as execution, trio.open_nursery() as nursery:
        nursery.start_soon(stdin_of(execution).send_all, b"x" * (4 * MIB))
        await trio.sleep(0.3)
        with pytest.raises(trio.BusyResourceError):
            await stdin_of(execution).send_all(b"y")
        nursery.cancel_scope.cancel()


@in_shared_box
async def test_a_cancelled_close_can_be_repeated(box: boxlite.Box) -> None:
    async with box.exec(["cat"]) as execution:
        with trio.CancelScope() as scope:
            scope.cancel()
            await stdin_of(execution).aclose()
        await stdin_of(execution).aclose()
        assert await execution.wait() == Exited(0)


@in_shared_box
async def test_bytes_in_many_small_pieces_arrive_in_order(box: boxlite.Box) -> None:
    async with box.exec(["cat"]) as execution:
        for number in range(200):
            await stdin_of(execution).send_all(b"%d\n" % number)
        await stdin_of(execution).aclose()
        assert [line async for line in execution.stdout.lines()] == [str(number) for number in range(200)]
