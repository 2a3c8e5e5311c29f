"""A command with a terminal: `tty=True` of `Box.exec`."""

from __future__ import annotations

import pytest
import trio

import boxlite
from boxlite import Execution, Exited, TtySize
from tests.boxes.guest_processes import PATIENCE, shell
from tests.shared_box import SharedBox, in_shared_box


async def read_until(execution: Execution, wanted: bytes) -> bytes:
    """What the terminal shows, up to where `wanted` has appeared."""
    shown = b""
    with trio.fail_after(PATIENCE):
        while wanted not in shown:
            piece = await execution.stdout.receive_some()
            assert piece, f"the output ended without {wanted!r}: {shown!r}"
            shown += piece
    return shown


async def send(execution: Execution, keys: bytes) -> None:
    assert execution.stdin is not None
    await execution.stdin.send_all(keys)


@in_shared_box
async def test_all_three_streams_are_the_terminal(box: boxlite.Box) -> None:
    script = "for i in 0 1 2; do test -t $i && echo $i; done; tty; echo $TERM; echo err >&2"
    async with box.exec(shell(script), tty=True) as execution:
        shown = b"".join([chunk async for chunk in execution.stdout])
        assert b"".join([chunk async for chunk in execution.stderr]) == b""
    assert shown.split(b"\r\n") == [b"0", b"1", b"2", b"/dev/pts/0", b"xterm", b"err", b""]


@in_shared_box
async def test_it_has_the_size_that_was_asked_for(box: boxlite.Box) -> None:
    for tty, expected in ((True, "24 80"), (TtySize(50, 132), "50 132")):
        async with box.exec(["stty", "size"], tty=tty) as execution:
            assert [line async for line in execution.stdout.lines()] == [expected]


@in_shared_box
async def test_a_new_size_is_signalled(box: boxlite.Box) -> None:
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done"
    async with box.exec(shell(script), tty=True) as execution:
        await read_until(execution, b"ready")
        await execution.resize_tty(33, 111)
        await read_until(execution, b"33 111")
        assert await execution.wait() == Exited(0)


@in_shared_box
async def test_it_echoes(box: boxlite.Box) -> None:
    async with box.exec(["cat"], tty=True) as execution:
        await send(execution, b"typed\n")
        assert await read_until(execution, b"typed\r\ntyped\r\n") == b"typed\r\ntyped\r\n"


@in_shared_box
async def test_control_c_interrupts(box: boxlite.Box) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done"
    async with box.exec(shell(script), tty=True) as execution:
        await read_until(execution, b"ready")
        await send(execution, b"\x03")
        await read_until(execution, b"caught")
        assert await execution.wait() == Exited(5)


@in_shared_box
async def test_control_d_ends_the_input(box: boxlite.Box) -> None:
    async with box.exec(["cat"], tty=True) as execution:
        await send(execution, b"line\n\x04")
        assert await execution.wait() == Exited(0)


@pytest.mark.parametrize("typed", [b"", b"line\n", b"no end"])
def test_closing_the_input_is_control_d(shared_box: SharedBox, typed: bytes) -> None:
    """Also in the middle of a line."""

    async def test(box: boxlite.Box) -> None:
        async with box.exec(["cat"], tty=True) as execution:
            await send(execution, typed)
            assert execution.stdin is not None
            await execution.stdin.aclose()
            assert await execution.wait() == Exited(0)

    shared_box.run(test)


@in_shared_box
async def test_a_hang_up_when_the_block_is_left(box: boxlite.Box) -> None:
    async with box.exec(["sh"], tty=True) as execution:
        await send(execution, b"echo $((6*7))\n")
        await read_until(execution, b"42")
    assert execution.outcome == boxlite.Cancelled()


@in_shared_box
async def test_a_user_owns_the_terminal(box: boxlite.Box) -> None:
    async with box.exec(shell("stat -c %U $(tty); echo x > $(tty)"), tty=True, user="nobody") as execution:
        assert [line async for line in execution.stdout.lines()] == ["nobody", "x"]


@in_shared_box
async def test_without_a_terminal_there_is_no_size(box: boxlite.Box) -> None:
    async with box.exec(["sleep", "60"]) as execution:
        with pytest.raises(RuntimeError, match="tty=True"):
            await execution.resize_tty(10, 10)
