"""The Execution service, over gRPC and with a real container on this host."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from guest.agent.output import CAPACITY, WINDOW
from proto.boxlite.v1 import (
    AttachRequest,
    AttachStart,
    Credit,
    ExecEvent,
    ExecRequest,
    Exited,
    InputChunk,
    InputReply,
    KillRequest,
    ResizeTtyRequest,
    StartFailure,
    StdinMode,
    TtySize,
    WaitRequest,
)
from tests.guest.agent.harness import UNLIMITED, Host, Run, Shared, start

ALL = Credit(stdout_limit=UNLIMITED, stderr_limit=UNLIMITED)


async def attach(host: Host, name: str, *, stdout_offset: int = 0, credit: Credit = ALL) -> Run:
    request = AttachStart(execution_id=name, stdout_offset=stdout_offset, credit=credit)
    return Run([event async for event in host.execution.attach([AttachRequest(start=request)])])


def chunk_of(name: str, offset: int, data: bytes, *, eof: bool = False) -> InputChunk:
    return InputChunk(execution_id=name, offset=offset, data=data, eof=eof, crc32=zlib.crc32(data))


async def send(host: Host, name: str, data: bytes, *, offset: int = 0, eof: bool = False) -> InputReply:
    return await host.execution.send_input([chunk_of(name, offset, data, eof=eof)])


async def kill(host: Host, name: str, signal: int) -> bool:
    return (await host.execution.kill(KillRequest(execution_id=name, signal=signal))).delivered


async def until_output(events: AsyncIterator[ExecEvent], wanted: bytes) -> bytes:
    seen = b""
    async for event in events:
        if event.output is not None:
            seen += event.output.data
        if wanted in seen:
            break
    return seen


async def _next(events: AsyncIterator[ExecEvent]) -> ExecEvent:
    return await anext(events)


async def follow(events: AsyncIterator[ExecEvent]) -> Run:
    return Run([event async for event in events])


def refusal(box: Shared, *argv: str | bytes, **options: Any) -> StartFailure:
    failed = box(lambda host: host.run(*argv, **options)).failed
    assert failed.message
    return failed.reason


# Output and outcome


def test_output_and_exit_code_arrive_and_the_exit_comes_last(box: Shared) -> None:
    run = box.shell("echo out; echo err >&2; exit 3")
    assert (run.stdout, run.stderr) == (b"out\n", b"err\n")
    assert (run.exited.exit_code, run.exited.signal, run.exited.timed_out) == (3, 0, False)
    assert run.exited.duration_ns > 0
    assert run.pid > 1


def test_a_signal_is_no_exit_code(box: Shared) -> None:
    exited = box.shell("kill -TERM $$").exited
    assert (exited.exit_code, exited.signal) == (0, 15)


def test_merged_output_comes_in_order_as_stdout(box: Shared) -> None:
    run = box.shell("echo 1; echo 2 >&2; echo 3", merge_stderr=True)
    assert (run.stdout, run.stderr) == (b"1\n2\n3\n", b"")


def test_much_output_arrives_byte_for_byte(box: Shared) -> None:
    run = box.shell(
        "dd if=/dev/urandom of=/tmp/random bs=1M count=16 2>/dev/null; cat /tmp/random; sha256sum </tmp/random >&2"
    )
    assert len(run.stdout) == 16 << 20
    assert run.stderr.split()[0].decode() == hashlib.sha256(run.stdout).hexdigest()


def test_output_is_sent_as_far_as_the_credit_goes(box: Shared) -> None:
    """Credit comes in pieces, and each piece lets just as many bytes through."""

    async def scenario(host: Host) -> list[tuple[int, bytes]]:
        outputs: asyncio.Queue[None] = asyncio.Queue()

        async def requests() -> AsyncIterator[ExecRequest]:
            yield ExecRequest(start=start("echo", "0123456789", credit=Credit(stdout_limit=4)))
            for limit in (7, UNLIMITED):
                await outputs.get()
                yield ExecRequest(credit=Credit(stdout_limit=limit))

        seen = []
        async for event in host.execution.exec(requests()):
            if event.output is not None and event.output.data:
                seen.append((event.output.offset, event.output.data))
                outputs.put_nowait(None)
        return seen

    assert box(scenario)[:3] == [(0, b"0123"), (4, b"456"), (7, b"789\n")]


def test_a_stream_that_nobody_reads_holds_up_its_own_command_only(box: Shared) -> None:
    async def scenario(host: Host) -> None:
        size = 4 * CAPACITY
        request = start("sh", "-c", f"head -c {size} /dev/zero; echo end >&2", credit=Credit(stderr_limit=UNLIMITED))
        stalled = host.exec(request)
        await anext(stalled)
        assert (await host.run("echo", "meanwhile")).stdout == b"meanwhile\n"
        waiting = asyncio.create_task(_next(stalled))
        await asyncio.sleep(0.3)
        assert not waiting.done()  # Not even the other stream has ended: the command waits.
        run = await attach(host, request.execution_id)
        with pytest.raises(GRPCError):
            await waiting
        assert len(run.stdout) == size
        assert run.stderr == b"end\n"

    box(scenario)


def test_many_executions_at_once_keep_their_output_apart(box: Shared) -> None:
    async def scenario(host: Host) -> list[Run]:
        script = "for i in 1 2 3 4 5; do echo {0}; echo {0} >&2; done"
        return list(await asyncio.gather(*(host.run("sh", "-c", script.format(index)) for index in range(8))))

    for index, run in enumerate(box(scenario)):
        assert run.stdout == run.stderr == f"{index}\n".encode() * 5


# What cannot be started


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["nope"], 127, b"boxlite: nope: command not found\n"),
        ([b"no\xff"], 127, b"boxlite: no\xff: command not found\n"),
        (["/bin/nope"], 127, b"boxlite: /bin/nope: No such file or directory\n"),
        (["/etc/passwd/x"], 127, b"boxlite: /etc/passwd/x: Not a directory\n"),
        (["/etc/passwd"], 126, b"boxlite: /etc/passwd: Permission denied\n"),
        (["/etc"], 126, b"boxlite: /etc: Permission denied\n"),
    ],
)
def test_what_is_not_found_or_not_executable_ends_as_in_a_shell(
    box: Shared, argv: list[str | bytes], code: int, text: bytes
) -> None:
    run = box(lambda host: host.run(*argv))
    assert (run.exited.exit_code, run.stderr, run.stdout, run.pid) == (code, text, b"", 0)
    assert box(lambda host: host.run(*argv, merge_stderr=True)).stdout == text


def test_the_command_is_looked_up_in_its_own_path(box: Shared) -> None:
    assert box(lambda host: host.run("true", env=[b"PATH=/tmp:/bin"])).exited.exit_code == 0
    assert box(lambda host: host.run("true", env=[b"PATH=/tmp"])).exited.exit_code == 127


def test_reasons_of_the_callers_are_refusals(box: Shared) -> None:
    assert refusal(box, "true", cwd=b"/absent") is StartFailure.WORKDIR
    assert refusal(box, "true", cwd=b"/etc/passwd") is StartFailure.WORKDIR
    assert refusal(box, "true", user="bob") is StartFailure.USER
    assert refusal(box, "true", user="alice:nobody") is StartFailure.USER
    assert refusal(box, "echo", "x" * 200_000) is StartFailure.TOO_LONG
    assert refusal(box, "echo", *["x" * 1000] * 10_000) is StartFailure.TOO_LONG
    assert refusal(box, "") is StartFailure.INVALID
    assert refusal(box, "echo", "a\0b") is StartFailure.INVALID


def test_arguments_near_the_kernels_limit_arrive(box: Shared) -> None:
    """They travel to the container's init in a file, since no datagram takes them."""
    assert box(lambda host: host.run("sh", "-c", "echo $#", "sh", *["x" * 1000] * 1500)).stdout == b"1500\n"


def test_odd_bytes_arrive_as_they_are(box: Shared) -> None:
    odd = bytes(range(1, 256))
    run = box(lambda host: host.run("sh", "-c", 'printf %s "$1$A"', "sh", odd, env=[b"A=" + odd, b"PATH=/bin"]))
    assert run.stdout == odd + odd


def test_an_id_is_used_once(box: Shared) -> None:
    name = "only-once"
    box(lambda host: host.run("true", execution_id=name))
    assert refusal(box, "true", execution_id=name) is StartFailure.INVALID


def test_requests_out_of_order_are_errors(box: Shared) -> None:
    async def status(host: Host, *requests: ExecRequest) -> Status:
        with pytest.raises(GRPCError) as error:
            _ = [event async for event in host.execution.exec(list(requests))]
        return error.value.status

    request = start("sleep", "10")
    assert box(lambda host: status(host)) is Status.INVALID_ARGUMENT
    assert box(lambda host: status(host, ExecRequest(credit=ALL))) is Status.INVALID_ARGUMENT
    assert (
        box(lambda host: status(host, ExecRequest(start=request), ExecRequest(start=request)))
        is Status.INVALID_ARGUMENT
    )
    assert box(lambda host: kill(host, request.execution_id, 9))


@pytest.mark.parametrize("name", ["absent", "", "x" * 1000, "a\nb"])
def test_an_execution_that_there_is_not_is_not_found(box: Shared, name: str) -> None:
    async def scenario(host: Host) -> None:
        for call in (
            host.execution.wait(WaitRequest(execution_id=name)),
            kill(host, name, 9),
            send(host, name, b"x"),
            host.execution.resize_tty(ResizeTtyRequest(execution_id=name, size=TtySize(rows=1, columns=1))),
            attach(host, name),
        ):
            with pytest.raises(GRPCError) as error:
                await call
            assert error.value.status is Status.NOT_FOUND

    box(scenario)


# Input


def test_input_in_the_start_and_after_it_reaches_the_command_in_order(box: Shared) -> None:
    async def scenario(host: Host) -> Run:
        request = start("cat", stdin=StdinMode.PIPE, input=b"first ")
        following = asyncio.create_task(follow(host.exec(request)))
        await asyncio.sleep(0.05)
        assert (await send(host, request.execution_id, b"second ", offset=6)).accepted == 13
        assert (await send(host, request.execution_id, b"second third", offset=6, eof=True)).accepted == 18
        return await following

    assert box(scenario).stdout == b"first second third"


def test_input_is_taken_as_fast_as_the_command_reads(box: Shared) -> None:
    data = bytes(1 << 20)

    async def scenario(host: Host) -> Run:
        request = start("sh", "-c", "sleep 0.2; wc -c", stdin=StdinMode.PIPE)
        following = asyncio.create_task(follow(host.exec(request)))
        await asyncio.sleep(0.05)
        chunks = [
            chunk_of(request.execution_id, offset, data[offset : offset + 65536])
            for offset in range(0, len(data), 65536)
        ]
        chunks[-1].eof = True
        reply = await host.execution.send_input(chunks)
        assert (reply.accepted, reply.broken_pipe) == (len(data), False)
        return await following

    assert box(scenario).stdout.split() == [b"1048576"]


def test_without_an_input_there_is_nothing_to_read(box: Shared) -> None:
    run = box(lambda host: host.run("cat"))
    assert (run.stdout, run.exited.exit_code) == (b"", 0)
    run = box(lambda host: host.run("cat", stdin=StdinMode.PIPE, input=b"all of it", input_eof=True))
    assert run.stdout == b"all of it"


def test_input_that_nobody_reads_is_a_broken_pipe(box: Shared) -> None:
    async def scenario(host: Host) -> InputReply:
        request = start("sh", "-c", "exec <&-; sleep 10", stdin=StdinMode.PIPE)
        events = host.exec(request)
        await anext(events)
        await asyncio.sleep(0.1)
        reply = await send(host, request.execution_id, bytes(1 << 18))
        await kill(host, request.execution_id, 9)
        return reply

    assert box(scenario).broken_pipe


def test_bad_input_is_an_error(box: Shared) -> None:
    async def status(host: Host, call: Any) -> Status:
        with pytest.raises(GRPCError) as error:
            await call
        return error.value.status

    async def scenario(host: Host) -> None:
        with_input, without = start("sleep", "10", stdin=StdinMode.PIPE), start("sleep", "10")
        for request in (with_input, without):
            await anext(host.exec(request))
        name = with_input.execution_id
        assert await status(host, send(host, name, b"x", offset=1)) is Status.OUT_OF_RANGE
        assert await status(host, send(host, without.execution_id, b"x")) is Status.FAILED_PRECONDITION
        assert await status(host, host.execution.send_input([])) is Status.INVALID_ARGUMENT
        damaged = InputChunk(execution_id=name, data=bytes(9), crc32=zlib.crc32(b"what was sent"))
        assert await status(host, host.execution.send_input([damaged])) is Status.DATA_LOSS
        mixed = [InputChunk(execution_id=name), InputChunk(execution_id=without.execution_id)]
        assert await status(host, host.execution.send_input(mixed)) is Status.INVALID_ARGUMENT
        for request in (with_input, without):
            assert await kill(host, request.execution_id, 9)

    box(scenario)


# Process groups, signals, timeouts


def test_a_signal_reaches_the_whole_group(box: Shared) -> None:
    async def scenario(host: Host) -> Run:
        request = start("sh", "-c", "sleep 60 & echo started; sleep 60")
        events = host.exec(request)
        await until_output(events, b"started")
        assert await kill(host, request.execution_id, 9)
        run = await follow(events)
        assert not await kill(host, request.execution_id, 9)
        return run

    assert box(scenario).exited.signal == 9
    assert b"sleep 60" not in box.shell("ps -o args").stdout


@pytest.mark.parametrize("signal", [0, 65, 2**31])
def test_what_is_no_signal_is_refused(box: Shared, signal: int) -> None:
    with pytest.raises(GRPCError, match="a signal is 1 to 64"):
        box(lambda host: kill(host, "any", signal))


def test_what_is_left_in_the_group_keeps_the_execution_open(box: Shared) -> None:
    """As trio.run_process waits for whoever has its pipes."""
    run = box.shell("(sleep 0.2; echo late) & echo early")
    assert run.stdout == b"early\nlate\n"


def test_what_is_left_in_the_group_is_killed_when_asked_for(box: Shared) -> None:
    run = box.shell("sleep 60 & echo early", stop_group_on_exit=True)
    assert (run.stdout, run.exited.exit_code) == (b"early\n", 0)
    assert b"sleep 60" not in box.shell("ps -o args").stdout


def test_a_daemon_outlives_the_execution_and_does_not_keep_it_open(box: Shared) -> None:
    run = box.shell("setsid sh -c 'echo $$; exec sleep 61' & sleep 0.1")
    assert run.exited.exit_code == 0
    pid = int(run.stdout)
    assert str(pid).encode() in box.shell("pidof sleep").stdout.split()
    box.shell(f"kill {pid}")


def test_the_timeout_kills_the_group(box: Shared) -> None:
    run = box.shell("echo before; sleep 62 & sleep 62", timeout_ms=150)
    assert run.stdout == b"before\n"
    assert (run.exited.timed_out, run.exited.signal) == (True, 9)
    assert run.exited.duration_ns >= 150_000_000
    assert b"sleep 62" not in box.shell("ps -o args").stdout


def test_the_timeout_covers_what_the_first_process_left_behind(box: Shared) -> None:
    exited = box.shell("sleep 63 & exit 5", timeout_ms=150).exited
    assert (exited.timed_out, exited.exit_code) == (True, 5)


def test_a_timeout_that_does_not_pass_changes_nothing(box: Shared) -> None:
    exited = box.shell("exit 4", timeout_ms=2**63).exited
    assert (exited.timed_out, exited.exit_code) == (False, 4)


# Terminals


def test_a_terminal_has_its_size_and_is_the_controlling_one(box: Shared) -> None:
    run = box.shell("tty; stty size; echo $TERM; echo err >&2; echo x >/dev/tty", tty=TtySize(rows=33, columns=99))
    assert run.stdout == b"/dev/pts/0\r\n33 99\r\nxterm\r\nerr\r\nx\r\n"
    assert run.stderr == b""


def test_a_terminal_belongs_to_the_user(box: Shared) -> None:
    run = box.shell("stat -c %U $(tty); echo >$(tty)", tty=TtySize(rows=1, columns=1), user="alice")
    assert run.stdout.splitlines()[0] == b"alice"
    assert run.exited.exit_code == 0


def test_a_new_size_reaches_the_command(box: Shared) -> None:
    async def scenario(host: Host) -> bytes:
        script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
        request = start("sh", "-c", script, tty=TtySize(rows=1, columns=1))
        events = host.exec(request)
        await until_output(events, b"ready")
        size = TtySize(rows=40, columns=120)
        await host.execution.resize_tty(ResizeTtyRequest(execution_id=request.execution_id, size=size))
        output = await until_output(events, b"120")
        with pytest.raises(GRPCError):
            await host.execution.resize_tty(ResizeTtyRequest(execution_id=request.execution_id))
        return output

    assert b"40 120" in box(scenario)


def test_a_terminals_interrupt_key_is_a_signal_and_its_end_of_file_key_ends_the_input(box: Shared) -> None:
    async def scenario(host: Host, script: str, keys: bytes, eof: bool) -> Run:
        request = start("sh", "-c", script, tty=TtySize(rows=24, columns=80), stdin=StdinMode.PIPE)
        events = host.exec(request)
        await until_output(events, b"ready")
        await send(host, request.execution_id, keys, eof=eof)
        return await follow(events)

    interrupted = box(lambda host: scenario(host, "echo ready; sleep 30", b"\x03", False))
    assert interrupted.exited.signal == 2 or interrupted.exited.exit_code == 130
    counted = box(lambda host: scenario(host, "echo ready; wc -c", b"four", True))
    assert counted.exited.exit_code == 0


def test_what_has_no_terminal_has_no_size(box: Shared) -> None:
    async def scenario(host: Host) -> None:
        request = start("true")
        await follow(host.exec(request))
        size = TtySize(rows=1, columns=1)
        await host.execution.resize_tty(ResizeTtyRequest(execution_id=request.execution_id, size=size))

    with pytest.raises(GRPCError, match="no terminal"):
        box(scenario)


# Broken streams, Attach and Wait


def test_the_command_runs_on_when_its_stream_breaks_and_can_be_attached_to(box: Shared) -> None:
    async def scenario(host: Host) -> tuple[Run, Exited]:
        request = start("sh", "-c", "echo one; sleep 0.3; echo two")
        following = asyncio.create_task(until_output(host.exec(request), b"never"))
        await asyncio.sleep(0.15)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        exited = await host.execution.wait(WaitRequest(execution_id=request.execution_id))
        return await attach(host, request.execution_id, stdout_offset=2), exited

    run, exited = box(scenario)
    assert run.stdout == b"e\ntwo\n"
    assert exited == run.exited


@pytest.mark.parametrize("events_read", [1, 2, 20])
def test_a_host_that_resets_its_stream_while_the_agent_sends_holds_nothing_up(box: Shared, events_read: int) -> None:
    """The output is more than the window of HTTP/2 has room for, so that the agent is in the middle of sending."""

    async def scenario(host: Host) -> Exited:
        request = start("head", "-c", str(8 << 20), "/dev/zero")
        async with contextlib.aclosing(cast(AsyncGenerator[ExecEvent, None], host.exec(request))) as events:
            for _ in range(events_read):
                await anext(events)
            await asyncio.sleep(0.1)
        return await host.execution.wait(WaitRequest(execution_id=request.execution_id))

    exited = box(scenario)
    assert (exited.exit_code, exited.stdout_end) == (0, 8 << 20)


def test_without_a_host_the_output_does_not_hold_the_command_up_and_the_gap_shows(box: Shared) -> None:
    async def scenario(host: Host) -> Run:
        request = start("sh", "-c", f"sleep 0.2; head -c {3 * CAPACITY} /dev/zero; echo done", credit=Credit())
        following = asyncio.create_task(until_output(host.exec(request), b"never"))
        await asyncio.sleep(0.1)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await host.execution.wait(WaitRequest(execution_id=request.execution_id))
        return await attach(host, request.execution_id)

    run = box(scenario)
    outputs = [event.output for event in run.events if event.output is not None]
    assert (outputs[0].offset, outputs[0].data) == (3 * CAPACITY + len(b"done\n") - CAPACITY, b"")
    assert run.stdout.endswith(b"\0done\n")
    assert len(run.stdout) == CAPACITY


def test_a_gap_shows_where_the_credit_ends_before_it(box: Shared) -> None:
    """Otherwise the host would wait for what is lost, and the agent for credit."""

    async def scenario(host: Host) -> list[ExecEvent]:
        request = start("sh", "-c", f"head -c {3 * CAPACITY} /dev/zero", credit=Credit())
        following = asyncio.create_task(until_output(host.exec(request), b"never"))
        await asyncio.sleep(0.1)
        following.cancel()
        await host.execution.wait(WaitRequest(execution_id=request.execution_id))
        credit = Credit(stdout_limit=WINDOW, stderr_limit=WINDOW)
        attached = AttachStart(execution_id=request.execution_id, credit=credit)
        events = host.execution.attach([AttachRequest(start=attached)])
        return [await anext(events), await anext(events)]

    _, gap = box(scenario)
    assert gap.output is not None
    assert (gap.output.offset, gap.output.data, gap.output.eof) == (2 * CAPACITY, b"", False)


def test_the_newest_follower_takes_over(box: Shared) -> None:
    async def scenario(host: Host) -> Run:
        request = start("sh", "-c", "echo one; sleep 0.3; echo two")
        first = host.exec(request)
        await until_output(first, b"one")
        second = asyncio.create_task(attach(host, request.execution_id))
        with pytest.raises(GRPCError) as error:
            await until_output(first, b"two")
        assert error.value.status is Status.ABORTED
        return await second

    assert box(scenario).stdout == b"one\ntwo\n"


def test_attaching_beyond_the_end_is_an_error(box: Shared) -> None:
    async def scenario(host: Host) -> None:
        request = start("echo", "1234")
        await follow(host.exec(request))
        assert (await attach(host, request.execution_id, stdout_offset=5)).stdout == b""
        await attach(host, request.execution_id, stdout_offset=6)

    with pytest.raises(GRPCError, match="STDOUT has 5 bytes so far, none at 6"):
        box(scenario)
