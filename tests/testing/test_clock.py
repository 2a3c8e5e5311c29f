"""A guest's clock counts the time in which its machine runs, and no other."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from boxlite.testing.clock import GuestClock

SECONDS = st.integers(1, 1000)


@given(SECONDS, st.lists(st.tuples(SECONDS, SECONDS), max_size=5))
def test_a_sleep_takes_so_much_longer_as_the_machine_was_paused(sleep: int, phases: list[tuple[int, int]]) -> None:
    async def main() -> None:
        clock = GuestClock()
        began = trio.current_time()
        paused = 0.0

        async def pause_now_and_then() -> None:
            nonlocal paused
            for running, standing in phases:
                await trio.sleep(running + 0.5)
                if clock.now() >= sleep:
                    return
                clock.pause()
                clock.pause()
                await trio.sleep(standing)
                clock.resume()
                clock.resume()
                paused += standing

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pause_now_and_then)
            await clock.sleep(sleep)
            assert trio.current_time() - began == sleep + paused
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_the_date_stands_still_in_a_pause_until_it_is_set(autojump_clock: MockClock) -> None:
    clock = GuestClock()
    clock.set_date(5000.0)
    await trio.sleep(10)
    clock.pause()
    await trio.sleep(100)
    clock.resume()
    assert clock.date() == 5010.0
    clock.set_date(5110.0)
    assert clock.date() == 5110.0
