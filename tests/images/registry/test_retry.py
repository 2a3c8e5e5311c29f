"""When to try again, and for how long not to."""

from __future__ import annotations

import email.utils
import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from boxlite.errors import RegistryUnavailable
from boxlite.images.registry.retry import LONGEST_DELAY_SECONDS, Retries, Transient, parse_retry_after

NOW = 1_764_400_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        (" 120 ", 120),
        ("999999999", 999_999_999),
        ("9999999999", None),
        ("-1", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("soon", None),
        (email.utils.formatdate(NOW + 90, usegmt=True), 90),
        (email.utils.formatdate(NOW - 90, usegmt=True), 0),
        ("Fri, 31 Feb 2026 00:00:00 GMT", None),
        ("Fri, 01 Jan 99999 00:00:00 GMT", None),
    ],
)
def test_a_number_or_a_date_says_how_long(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(value=st.text(max_size=40))
def test_any_text_is_a_time_or_nothing(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0


async def test_each_wait_is_longer_than_the_one_before_up_to_a_bound(autojump_clock: MockClock) -> None:
    retries = Retries(12, 120, random.Random(1))
    waits = []
    for _ in range(11):
        began = trio.current_time()
        await retries.wait(Transient("no"))
        waits.append(trio.current_time() - began)
    for number, wait in enumerate(waits):
        longest = min(0.5 * 2**number, LONGEST_DELAY_SECONDS)
        assert longest / 2 <= wait <= longest
    with pytest.raises(RegistryUnavailable, match=r"no \(tried 12 times\)"):
        await retries.wait(Transient("no"))


async def test_what_was_asked_for_is_waited_at_least(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    await Retries(2, 120).wait(Transient("busy", 100))
    assert trio.current_time() - began == pytest.approx(100)


async def test_progress_starts_the_count_anew(autojump_clock: MockClock) -> None:
    retries = Retries(2, 120)
    for _ in range(10):
        await retries.wait(Transient("no"))
        retries.progress()


async def test_work_is_done_again_until_it_succeeds(autojump_clock: MockClock) -> None:
    tries = 0

    async def work() -> int:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise Transient("no")
        return tries

    assert await Retries(5, 120).run(work) == 4
    with pytest.raises(ValueError, match="a bug"):
        await Retries(5, 120).run(_broken)


async def _broken() -> None:
    raise ValueError("a bug")
