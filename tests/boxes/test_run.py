"""`Box.run` is to a box what `trio.run_process` is to the host."""

from __future__ import annotations

import pickle
import random
import subprocess

import pytest
import trio

import boxlite
from boxlite import CommandFailed, CommandTimedOut, Exited, OutputTooLarge, Signalled, TimedOut
from boxlite.boxes.execution import SHORT_INPUT
from tests.boxes.guest_processes import is_running, shell, wait_running
from tests.shared_box import in_shared_box


@in_shared_box
async def test_a_command_gives_its_output_and_its_outcome(box: boxlite.Box) -> None:
    done = await box.run(["python3", "-c", "print(6 * 7)"])
    assert (done.stdout, done.stderr, done.outcome, done.returncode) == (b"42\n", b"", Exited(0), 0)
    assert done.argv == (b"python3", b"-c", b"print(6 * 7)")


@in_shared_box
async def test_the_duration_is_measured_in_the_guest(box: boxlite.Box) -> None:
    done = await box.run(["sleep", "0.2"])
    assert done.duration is not None
    assert 0.15 < done.duration < 20


@in_shared_box
async def test_a_checked_failure_is_also_subprocesss_own_error(box: boxlite.Box) -> None:
    with pytest.raises(CommandFailed) as caught:
        await box.run(shell("echo said; echo oops >&2; exit 3"))
    error = caught.value
    assert isinstance(error, subprocess.CalledProcessError)
    assert isinstance(error, boxlite.BoxError)
    assert (error.returncode, error.stdout, error.stderr, error.outcome) == (3, b"said\n", b"oops\n", Exited(3))
    assert str(error) == (
        f"box {box.name}: the command 'sh -c echo said; echo oops >&2; exit 3' exited with code 3: oops"
    )


@in_shared_box
async def test_a_failure_can_travel_to_another_process(box: boxlite.Box) -> None:
    with pytest.raises(CommandFailed) as caught:
        await box.run(["false"])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@in_shared_box
async def test_an_error_message_shows_nothing_that_a_terminal_would_obey(box: boxlite.Box) -> None:
    with pytest.raises(CommandFailed) as caught:
        await box.run(shell(r"printf '\033]0;owned\007\rgone\n' >&2; exit 1"))
    assert str(caught.value).isprintable()
    assert "owned" in str(caught.value)


@in_shared_box
async def test_an_unchecked_outcome_is_a_value(box: boxlite.Box) -> None:
    assert (await box.run(["false"], check=False)).outcome == Exited(1)
    killed = await box.run(shell("kill -TERM $$"), check=False)
    assert (killed.outcome, killed.returncode) == (Signalled(15), -15)
    late = await box.run(["sleep", "60"], timeout=0.2, check=False)
    assert (late.outcome, late.returncode) == (TimedOut(), 124)


@in_shared_box
async def test_a_checked_timeout_is_a_timeout_error_and_kills_the_whole_group(box: boxlite.Box) -> None:
    with pytest.raises(CommandTimedOut, match="timed out") as caught:
        await box.run(shell("echo begun; sleep 61001 & sleep 61001"), timeout=0.5)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.stdout == b"begun\n"
    assert not await is_running(box, "sleep 61001")


@in_shared_box
async def test_a_command_that_traps_every_signal_times_out_all_the_same(box: boxlite.Box) -> None:
    done = await box.run(shell("trap '' TERM INT HUP QUIT; while :; do sleep 1; done"), timeout=0.5, check=False)
    assert done.outcome == TimedOut()


@in_shared_box
async def test_a_timeout_that_is_not_reached_changes_nothing(box: boxlite.Box) -> None:
    for timeout in (30, float("inf"), 1e300):
        assert (await box.run(["true"], timeout=timeout)).outcome == Exited(0)


@in_shared_box
async def test_an_input_of_a_mebibyte_comes_back_byte_for_byte(box: boxlite.Box) -> None:
    data = random.Random(1).randbytes(1 << 20)
    assert (await box.run(["cat"], input=data)).stdout == data


@in_shared_box
async def test_an_input_of_any_length_is_counted_and_ends(box: boxlite.Box) -> None:
    """A short one travels with the request, a longer one after it."""
    for length in (0, 1, SHORT_INPUT, SHORT_INPUT + 1):
        before = box.metrics().bytes_sent
        assert (await box.run(["wc", "-c"], input=bytes(length))).stdout == b"%d\n" % length
        assert box.metrics().bytes_sent - before == length


@in_shared_box
async def test_an_input_may_be_any_buffer(box: boxlite.Box) -> None:
    assert (await box.run(["cat"], input=bytearray(b"abc"))).stdout == b"abc"
    assert (await box.run(["cat"], input=memoryview(b"abcdef")[::2])).stdout == b"ace"
    assert (await box.run(["cat"], input=b"")).stdout == b""


@in_shared_box
async def test_text_is_no_input(box: boxlite.Box) -> None:
    with pytest.raises(TypeError, match="bytes-like"):
        await box.run(["cat"], input="text")  # type: ignore[arg-type]


@in_shared_box
async def test_without_an_input_there_is_nothing_to_read(box: boxlite.Box) -> None:
    """As with stdin=DEVNULL: a command that reads does not wait."""
    assert (await box.run(["cat"])).stdout == b""


@in_shared_box
async def test_a_command_need_not_read_all_of_its_input(box: boxlite.Box) -> None:
    assert (await box.run(["head", "-c", "1"], input=b"ab" * (1 << 20))).stdout == b"a"
    assert (await box.run(["true"], input=b"ab" * (1 << 20))).outcome == Exited(0)


@in_shared_box
async def test_a_command_may_close_its_output_early(box: boxlite.Box) -> None:
    done = await box.run(shell("echo first; exec >&- 2>&-; sleep 0.3; exit 4"), check=False)
    assert (done.stdout, done.outcome) == (b"first\n", Exited(4))


@in_shared_box
async def test_what_is_not_captured_is_dropped(box: boxlite.Box) -> None:
    done = await box.run(shell("head -c 2000000 /dev/zero; echo err >&2"), capture_stdout=False)
    assert (done.stdout, done.stderr) == (None, b"err\n")
    done = await box.run(shell("echo out; echo err >&2"), capture_stderr=False)
    assert (done.stdout, done.stderr) == (b"out\n", None)


@in_shared_box
async def test_merged_outputs_keep_their_order(box: boxlite.Box) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo out$i; echo err$i >&2; done"
    done = await box.run(shell(script), stderr=subprocess.STDOUT)
    assert done.stdout == b"".join(b"out%d\nerr%d\n" % (i, i) for i in range(1, 10))
    assert done.stderr == b""


@in_shared_box
async def test_bytes_that_are_no_text_go_through_argv_env_and_output(box: boxlite.Box) -> None:
    raw = bytes(range(1, 256))
    assert (await box.run([b"printf", b"%s", raw])).stdout == raw
    value = raw.decode("utf-8", "surrogateescape")
    assert (await box.run(shell('printf %s "$RAW"'), env={"RAW": value})).stdout == raw


@in_shared_box
async def test_options_of_a_command(box: boxlite.Box) -> None:
    done = await box.run(shell("echo $A; pwd; id -un"), env={"A": "b"}, cwd="/tmp", user="nobody")
    assert done.stdout == b"b\n/tmp\nnobody\n"


@in_shared_box
async def test_too_much_output_is_an_error_and_ends_the_command(box: boxlite.Box) -> None:
    with pytest.raises(OutputTooLarge, match="more than 1000 bytes"):
        await box.run(shell("head -c 1001 /dev/zero; sleep 61002"), max_output=1000)
    assert not await is_running(box, "sleep 61002")
    assert len((await box.run(["head", "-c", "1000", "/dev/zero"], max_output=1000)).stdout or b"") == 1000
    with pytest.raises(boxlite.InvalidCommand, match="max_output"):
        await box.run(["true"], max_output=-1)


@in_shared_box
async def test_cancelling_kills_the_commands_process_group(box: boxlite.Box) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.run, shell("sleep 61003 & sleep 61003"))
        await wait_running(box, "sleep 61003")
        nursery.cancel_scope.cancel()
    assert not await is_running(box, "sleep 61003")


@in_shared_box
async def test_a_background_process_that_keeps_the_output_open_is_waited_for(box: boxlite.Box) -> None:
    """As with `trio.run_process`."""
    assert (await box.run(shell("(sleep 0.3; echo late) & echo early"))).stdout == b"early\nlate\n"


@in_shared_box
async def test_a_background_process_that_let_go_of_the_output_lives_on(box: boxlite.Box) -> None:
    """As with `docker exec`: one command starts a server, the next one uses it."""
    await box.run(shell("sleep 61004 >/dev/null 2>&1 & echo started"))
    await wait_running(box, "sleep 61004")
    await box.run(["killall", "sleep"])


@in_shared_box
async def test_many_commands_at_once_each_get_their_own_output(box: boxlite.Box) -> None:
    got: dict[str, bytes | None] = {}

    async def run(letter: str) -> None:
        got[letter] = (await box.run(shell(f"head -c 100000 /dev/zero | tr '\\0' {letter}"))).stdout

    async with trio.open_nursery() as nursery:
        for letter in "abcdefgh":
            nursery.start_soon(run, letter)
    assert got == {letter: letter.encode() * 100_000 for letter in "abcdefgh"}


@in_shared_box
async def test_64_mebibytes_arrive_byte_for_byte(box: boxlite.Box) -> None:
    """Both sides make the same random mebibyte of a seed, and rotate it for each of the 64."""
    script = (
        "import random, sys\n"
        "piece = random.Random(7).randbytes(1 << 20)\n"
        "for i in range(64): sys.stdout.buffer.write(piece[i:] + piece[:i])\n"
    )
    done = await box.run(["python3", "-c", script])
    piece = random.Random(7).randbytes(1 << 20)
    # Not with assert: pytest would print 64 MiB.
    if done.stdout != b"".join(piece[i:] + piece[:i] for i in range(64)):
        pytest.fail(f"{len(done.stdout or b'')} bytes came, not the {64 << 20} that were written")
