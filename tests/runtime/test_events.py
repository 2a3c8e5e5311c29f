"""Events of a runtime for its subscribers: in order, bounded, with what is lost said where it was lost."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from boxlite.boxes.changes import BoxChange
from boxlite.boxes.lifecycle import BoxEvent, BoxState
from boxlite.runtime.events import EventFeed, EventsLost, RuntimeEvent


def change(number: int) -> BoxChange:
    return BoxChange(f"box-{number}", f"{number:016x}", BoxEvent.CREATE, None, BoxState.CONFIGURED, float(number))


async def test_each_subscriber_gets_what_is_published_during_its_block() -> None:
    feed = EventFeed()
    feed.publish(change(0))
    with feed.subscribe() as early:
        feed.publish(change(1))
        with feed.subscribe() as late:
            feed.publish(change(2))
            feed.close()
            assert [event async for event in late] == [change(2)]
        assert [event async for event in early] == [change(1), change(2)]


@given(st.lists(st.integers(0, 6)), st.integers(1, 4))
def test_every_event_comes_in_order_or_is_counted_as_lost_in_its_place(bursts: list[int], capacity: int) -> None:
    """After each burst one event is read; what comes in all, gaps included, is all that was published."""
    feed = EventFeed()

    async def main() -> list[RuntimeEvent]:
        got: list[RuntimeEvent] = []
        published = 0
        with feed.subscribe(capacity) as events:
            for burst in bursts:
                for _ in range(burst):
                    feed.publish(change(published))
                    published += 1
                if burst:
                    got.append(await anext(events))
            feed.close()
            got += [event async for event in events]
        assert isinstance(got, list)
        expected = 0
        for event in got:
            if isinstance(event, EventsLost):
                assert event.count > 0
                expected += event.count
            else:
                assert event == change(expected)
                expected += 1
        assert expected == published
        return got

    trio.run(main)


async def test_a_subscriber_that_waits_is_woken_and_a_cancelled_one_loses_nothing() -> None:
    feed = EventFeed()
    with feed.subscribe() as events:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(events.__anext__)
                await wait_all_tasks_blocked()
                with pytest.raises(trio.BusyResourceError):
                    await anext(events)
                scope.cancel()
        feed.publish(change(1))
        with trio.fail_after(5):
            assert await anext(events) == change(1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(events.__anext__)
                await wait_all_tasks_blocked()
                feed.publish(change(2))


async def test_a_subscription_after_the_end_ends_at_once() -> None:
    feed = EventFeed()
    feed.close()
    with feed.subscribe() as events:
        assert [event async for event in events] == []
