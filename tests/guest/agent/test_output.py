"""Draining one stream of a command."""

from __future__ import annotations

import os
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from guest.agent import loop
from guest.agent.output import CAPACITY, CHUNK, Chunk, OutputStream
from tests.guest.agent.looping import run

UNLIMITED = 1 << 40


UNLIMITED = 1 << 40


class Pipe:
    """A pipe whose read end an OutputStream drains."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        self.changed = loop.Event()
        self.ended = loop.Event()
        self.stream = OutputStream(reader, self._note)

    def _note(self) -> None:
        self.changed.set()
        if self.stream.ended:
            self.ended.set()

    async def write(self, data: bytes) -> int:
        """Writes until it is all taken, or until nobody drains any more; says how much was written."""
        written = 0
        idle = 0
        while written < len(data) and idle < 50:
            try:
                written += os.write(self.writer, data[written : written + CHUNK])
                idle = 0
            except BlockingIOError:
                idle += 1
            await loop.sleep(0)
        return written

    async def take_all(self) -> bytes:
        taken = b""
        while True:
            self.changed.clear()
            while (chunk := self.stream.take()) is not None:
                taken += chunk.data
                if chunk.eof:
                    return taken
            await self.changed.wait()

    def close(self) -> None:
        self.stream.close()
        os.close(self.writer)


def test_with_a_reader_that_takes_nothing_the_command_blocks_and_nothing_is_lost() -> None:
    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.attach(0, UNLIMITED)
        data = os.urandom(3 * CAPACITY)
        written = await pipe.write(data)
        assert CAPACITY <= written < 2 * CAPACITY
        taken: list[bytes] = []

        async def take() -> None:
            taken.append(await pipe.take_all())

        taking = loop.spawn(take())
        written += await pipe.write(data[written:])
        os.close(pipe.writer)
        await taking.wait()
        assert taken == [data[:written]]
        assert written == len(data)

    run(scenario())


def test_before_the_first_reader_nothing_is_lost() -> None:
    """However long it takes from the command's start until its host reads."""

    async def scenario() -> None:
        pipe = Pipe()
        data = os.urandom(3 * CAPACITY)
        written = await pipe.write(data)
        assert written < len(data)
        pipe.stream.attach(0, UNLIMITED)
        os.close(pipe.writer)
        assert await pipe.take_all() == data[:written]

    run(scenario())


def test_without_a_reader_the_command_runs_on_and_the_newest_bytes_are_kept() -> None:
    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.detach()
        data = os.urandom(3 * CAPACITY)
        assert await pipe.write(data) == len(data)
        os.close(pipe.writer)
        await pipe.ended.wait()
        pipe.stream.attach(0, UNLIMITED)
        first = pipe.stream.take()
        assert first is not None
        assert first.offset == len(data) - CAPACITY
        assert first.data + await pipe.take_all() == data[-CAPACITY:]

    run(scenario())


def test_no_more_is_given_than_the_limit_allows() -> None:
    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.attach(0, 5)
        await pipe.write(b"0123456789")
        await pipe.changed.wait()
        chunk = pipe.stream.take()
        assert chunk is not None
        assert (chunk.offset, chunk.data, chunk.eof) == (0, b"01234", False)
        assert pipe.stream.take() is None
        pipe.stream.allow(3)  # Limits only grow.
        assert pipe.stream.take() is None
        pipe.stream.allow(8)
        chunk = pipe.stream.take()
        assert chunk is not None
        assert (chunk.offset, chunk.data) == (5, b"567")
        pipe.close()

    run(scenario())


def test_the_end_is_announced_once() -> None:
    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.attach(0, UNLIMITED)
        os.close(pipe.writer)
        assert await pipe.take_all() == b""
        assert pipe.stream.ended
        assert pipe.stream.taken
        assert pipe.stream.take() is None

    run(scenario())


def test_an_end_that_the_commands_own_follows_is_not_told_by_itself() -> None:
    """Each message is one more time that the guest works and the host wakes."""

    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.attach(0, UNLIMITED)
        os.write(pipe.writer, b"all")
        os.close(pipe.writer)
        await pipe.ended.wait()
        chunk = pipe.stream.take()
        assert chunk is not None
        assert (chunk.data, chunk.eof) == (b"all", False)
        assert pipe.stream.taken
        pipe.stream.abandon()
        await loop.sleep(0.03)
        assert pipe.stream.take() is None

    run(scenario())


def test_finishing_gives_what_was_written_and_ignores_whoever_still_has_the_pipe() -> None:
    """A daemon that keeps the pipe open does not keep the stream open, nor add to it."""

    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.attach(0, UNLIMITED)
        os.write(pipe.writer, b"the command's")
        pipe.stream.finish()
        assert pipe.stream.ended
        assert await pipe.take_all() == b"the command's"
        os.close(pipe.writer)

    run(scenario())


def test_finishing_with_a_full_buffer_waits_for_its_reader() -> None:
    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.attach(0, UNLIMITED)
        data = os.urandom(2 * CAPACITY)
        written = await pipe.write(data)
        pipe.stream.finish()
        assert not pipe.stream.ended
        assert await pipe.take_all() == data[:written]
        os.close(pipe.writer)

    run(scenario())


def test_a_later_reader_gets_again_what_an_earlier_one_had() -> None:
    """The connection may break with bytes on their way: they can be asked for again."""

    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.attach(0, UNLIMITED)
        os.write(pipe.writer, b"0123456789")
        os.close(pipe.writer)
        assert await pipe.take_all() == b"0123456789"
        pipe.stream.detach()
        pipe.stream.attach(4, UNLIMITED)
        assert await pipe.take_all() == b"456789"

    run(scenario())


def test_a_flood_of_small_writes_is_gathered() -> None:
    """A message each would cost many times the bytes. Nothing is lost by it, nor held back at the end."""

    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.attach(0, UNLIMITED)
        sent = b"".join(bytes([number % 256]) * 100 for number in range(500))
        chunks = []
        for start in range(0, len(sent), 100):
            await pipe.write(sent[start : start + 100])
            while (chunk := pipe.stream.take()) is not None:
                chunks.append(chunk.data)
        os.close(pipe.writer)
        chunks.append(await pipe.take_all())
        assert b"".join(chunks) == sent
        assert len(chunks) < 250

    run(scenario())


def test_a_few_small_writes_are_not_kept_waiting() -> None:
    async def scenario() -> None:
        pipe = Pipe()
        pipe.stream.attach(0, UNLIMITED)
        for piece in (b"a", b"b", b"c"):
            os.write(pipe.writer, piece)
            pipe.changed.clear()
            await pipe.changed.wait()
            taken = pipe.stream.take()
            assert taken is not None
            assert taken.data == piece
        os.close(pipe.writer)
        assert await pipe.take_all() == b""

    run(scenario())


STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 60)),
    st.tuples(st.just("take"), st.integers(1, 9)),
    st.tuples(st.just("receive"), st.integers(1, 9)),
    st.tuples(st.just("break"), st.just(0)),
    st.tuples(st.just("leave"), st.just(0)),
)


@given(st.lists(STEPS, max_size=40))
def test_a_reader_that_attaches_where_it_was_gets_every_byte_or_an_exact_gap(steps: list[tuple[str, int]]) -> None:
    """Wherever its connection breaks, whatever was on its way; gaps come from leaving alone. The sizes are small."""
    window = 16
    with patch.multiple("guest.agent.output", CAPACITY=64, WINDOW=window, CHUNK=8, _GATHER_AFTER=10_000):
        run(_read_with_breaks(steps, window))


async def _read_with_breaks(steps: list[tuple[str, int]], window: int) -> None:
    pipe = Pipe()
    content = bytes(range(256)) * 10
    written = received = 0
    on_its_way: list[Chunk] = []
    left = False

    def receive(chunk: Chunk) -> None:
        nonlocal received, left
        if chunk.offset != received:
            assert left
            # At the latest there; less was lost where it was not written yet when the reader attached.
            assert received < chunk.offset <= max(received, written - 64)
            assert chunk.data == b""
        left = False
        assert chunk.data == content[chunk.offset : chunk.offset + len(chunk.data)]
        received = chunk.offset + len(chunk.data)
        pipe.stream.allow(received + window)

    pipe.stream.attach(0, window)
    attached = True
    for step, number in [*steps, ("attach", 0)]:
        if step not in ("break", "leave", "write") and not attached:
            pipe.stream.attach(received, received + window)
            attached = True
        if step == "write":
            written += await pipe.write(content[written : written + number])
            for _ in range(20):  # Turns enough to read it, as far as that is to be.
                await loop.sleep(0)
        elif step == "take":
            on_its_way += [chunk for _ in range(number) if (chunk := pipe.stream.take()) is not None]
        elif step == "receive":
            for chunk in on_its_way[:number]:
                receive(chunk)
            del on_its_way[:number]
        else:
            on_its_way.clear()
            attached = False
            if step == "leave":
                pipe.stream.detach()
                left = True
    os.close(pipe.writer)
    pipe.stream.attach(received, received + window)
    while received < written or not pipe.stream.taken:
        await loop.sleep(0)
        while (chunk := pipe.stream.take()) is not None:
            receive(chunk)
    assert received == written
