"""The mailbox, against a model of two bounded queues."""

from __future__ import annotations

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.mailbox import Letter, Mailbox
from actors.messages import Message


@attrs.frozen
class Numbered(Message[None]):
    number: int


PUTS = st.lists(st.booleans(), max_size=30)


@given(priorities=PUTS, capacity=st.integers(1, 8), random=st.random_module())
@settings(deadline=None)
def test_letters_come_out_in_order_each_lane_for_itself_and_none_is_lost(
    priorities: list[bool], capacity: int, random: object
) -> None:
    """However many writers wait for room: first come, first served, the priority lane first."""

    async def main() -> None:
        mailbox = Mailbox(capacity)
        lanes: dict[bool, list[int]] = {True: [], False: []}
        async with trio.open_nursery() as nursery:
            for number, priority in enumerate(priorities):
                letter = Letter(Numbered(number), None)
                taken = mailbox.put_nowait(letter, priority)
                assert taken == (len(lanes[priority]) < capacity)
                if not taken:
                    nursery.start_soon(mailbox.put, letter, priority)
                    await wait_all_tasks_blocked()
                lanes[priority].append(number)
            assert len(mailbox) == sum(min(len(lane), capacity) for lane in lanes.values())
            read = [mailbox.take() for _ in priorities]
        assert [letter.message for letter in read if letter] == [Numbered(n) for n in lanes[True] + lanes[False]]
        assert len(mailbox) == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_a_writer_that_gave_up_left_nothing_behind() -> None:
    mailbox = Mailbox(1)
    assert mailbox.put_nowait(Letter(Numbered(0), None), False)
    with trio.move_on_after(0):
        await mailbox.put(Letter(Numbered(1), None), False)
    assert mailbox.take() == Letter(Numbered(0), None)
    assert len(mailbox) == 0


async def test_a_reader_that_gave_up_takes_nothing() -> None:
    mailbox = Mailbox(1)
    with trio.move_on_after(0):
        await mailbox.wait()
    letter = Letter(Numbered(0), None)
    assert mailbox.put_nowait(letter, False)
    assert mailbox.take() is letter


async def test_wake_ends_the_wait_for_a_letter() -> None:
    mailbox = Mailbox(1)

    async def read() -> None:
        await mailbox.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        mailbox.wake()
