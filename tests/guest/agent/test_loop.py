"""The agent's event loop."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent import loop
from tests.guest.agent.looping import run, until_readable


def test_what_a_task_raises_ends_the_loop_and_every_other_task_is_cancelled_first() -> None:
    log: list[str] = []

    async def waiting() -> None:
        try:
            await loop.Event().wait()
        finally:
            log.append("cleaned up")

    async def failing() -> None:
        raise ValueError("the reason")

    async def scenario() -> None:
        loop.spawn(waiting())
        await loop.sleep(0)
        loop.spawn(failing())
        await loop.Event().wait()

    with pytest.raises(ValueError, match="the reason"):
        loop.run(scenario())
    assert log == ["cleaned up"]


def test_what_a_callback_raises_ends_the_loop() -> None:
    async def scenario() -> None:
        loop.call_soon(lambda: 1 / 0)  # type: ignore[arg-type]
        await loop.Event().wait()

    with pytest.raises(ZeroDivisionError):
        loop.run(scenario())


def test_there_is_one_loop_at_a_time_and_none_without() -> None:
    async def scenario() -> None:
        inner = nothing()
        with pytest.raises(RuntimeError, match="runs already"):
            loop.run(inner)
        inner.close()

    run(scenario())
    with pytest.raises(RuntimeError, match="no loop runs"):
        loop.call_soon(lambda: None)


async def nothing() -> None:
    return


def test_a_task_that_is_cancelled_cleans_up_and_is_done() -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            await loop.sleep(60)
        except loop.Cancelled:
            log.append("cancelled")
            await loop.sleep(0)  # A cleanup may wait.
            log.append("clean")
            raise

    async def scenario() -> None:
        task, never = loop.spawn(work()), loop.spawn(work())
        never.cancel()
        await loop.sleep(0)
        task.cancel()
        task.cancel()  # Once more changes nothing.
        await task.wait()
        await never.wait()
        assert task.done
        task.cancel()

    run(scenario())
    assert log == ["cancelled", "clean"]  # One never began.


def test_an_event_wakes_all_who_wait_also_when_it_is_cleared_at_once() -> None:
    async def scenario() -> None:
        event, woken = loop.Event(), []

        async def wait(name: int) -> None:
            await event.wait()
            woken.append(name)

        tasks = [loop.spawn(wait(number)) for number in range(3)]
        await loop.sleep(0)
        event.set()
        event.clear()
        for task in tasks:
            await task.wait()
        assert woken == [0, 1, 2]
        assert not event.is_set()

    run(scenario())


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_a_lock_lets_one_in_at_a_time_in_order_whoever_gives_up(cancelled: list[bool]) -> None:
    async def scenario() -> None:
        lock, entered, inside = loop.Lock(), [], 0

        async def work(number: int) -> None:
            nonlocal inside
            async with lock:
                inside += 1
                assert inside == 1
                entered.append(number)
                await loop.sleep(0)
                inside -= 1

        async with lock:
            tasks = [loop.spawn(work(number)) for number in range(len(cancelled))]
            await loop.sleep(0)
            for task, gives_up in zip(tasks, cancelled, strict=True):
                if gives_up:
                    task.cancel()
        for task in tasks:
            await task.wait()
        assert entered == [number for number, gives_up in enumerate(cancelled) if not gives_up]

    run(scenario())


def test_a_timeout_raises_where_it_waits_and_only_its_own() -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with loop.timeout(0.01):
                await loop.Event().wait()
        async with loop.timeout(60):
            await loop.sleep(0)
        with pytest.raises(TimeoutError):
            async with loop.timeout(60), loop.timeout(0.01):
                await loop.Event().wait()

    run(scenario())


def test_a_cancellation_goes_through_a_timeout() -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            async with loop.timeout(60):
                await loop.Event().wait()
        except TimeoutError:
            log.append("timeout")

    async def scenario() -> None:
        task = loop.spawn(work())
        await loop.sleep(0)
        task.cancel()
        await task.wait()

    run(scenario())
    assert log == []


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12))
def test_timers_call_in_the_order_of_their_times_and_cancelled_ones_never(timers: list[tuple[int, bool]]) -> None:
    async def scenario() -> None:
        called: list[loop.Timer] = []
        made: list[loop.Timer] = []
        for number, (milliseconds, _) in enumerate(timers):
            made.append(loop.call_later(milliseconds / 1000, lambda number=number: called.append(made[number])))  # type: ignore[misc]
        kept = [timer for timer, (_, cancelled) in zip(made, timers, strict=True) if not cancelled]
        for timer in made:
            if timer not in kept:
                timer.cancel()
        await loop.sleep(0.004)
        assert called == sorted(kept, key=lambda timer: timer._entry[:2])
        for timer in made:
            timer.cancel()  # Too late, and harmless.

    run(scenario())


def test_a_timer_of_a_million_years_keeps_nobody_from_waiting() -> None:
    async def scenario() -> None:
        timer = loop.call_later(3e13, lambda: None)
        await loop.sleep(0.001)
        timer.cancel()

    run(scenario())


def test_what_is_to_come_before_waiting_comes_after_all_that_is_ready() -> None:
    async def scenario() -> None:
        log: list[str] = []
        loop.call_before_waiting(lambda: log.append("last"))
        for number in range(3):
            loop.call_soon(lambda number=number: loop.call_soon(lambda: log.append(f"{number}")))  # type: ignore[misc]
        await loop.sleep(0.001)
        assert log == ["0", "1", "2", "last"]

    run(scenario())


def test_a_task_that_never_waits_long_does_not_keep_descriptors_from_being_served() -> None:
    async def scenario() -> None:
        reader, writer = os.pipe()
        os.write(writer, b"x")
        busy = True

        def spin() -> None:
            if busy:
                loop.call_soon(spin)

        spin()
        began = time.monotonic()
        await until_readable(reader)
        busy = False
        assert time.monotonic() - began < 10
        os.close(reader)
        os.close(writer)

    run(scenario())


def test_a_descriptor_has_a_reader_and_a_writer_which_come_and_go_alone() -> None:
    async def scenario() -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        log: list[str] = []
        loop.add_reader(reader, lambda: log.append("readable"))
        loop.add_writer(writer, lambda: log.append("writable"))
        await loop.sleep(0.001)
        assert set(log) == {"writable"}
        loop.remove_writer(writer)
        loop.remove_writer(writer)
        loop.remove_reader(writer)
        log.clear()
        os.write(writer, b"x")
        await loop.sleep(0.001)
        assert set(log) == {"readable"}
        loop.remove_reader(reader)
        log.clear()
        os.close(writer)  # A hang-up is for those alone who asked.
        await loop.sleep(0.001)
        assert log == []
        os.close(reader)

    run(scenario())
