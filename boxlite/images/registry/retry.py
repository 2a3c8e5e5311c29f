"""When to try again: what passes by itself, and how long to wait for it."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeVar

import attrs
import trio

from boxlite.errors import RegistryUnavailable

T = TypeVar("T")

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
_SECONDS = re.compile(r"[0-9]{1,9}")


class Transient(Exception):
    """A failure that may pass by itself. `wait` is how many seconds the other side asks us to wait, if it does."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def parse_retry_after(value: str | None, now: float) -> float | None:
    """The seconds that a header Retry-After asks for, which may be a number or a date; None for anything else.

    `now` is the time of the wall clock, in seconds since 1970.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        # HTTP's dates are all in UTC, whether they say so or not.
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


@attrs.define
class Retries:
    """The tries of one piece of work. Progress in between starts the count anew."""

    attempts: int
    """In a row without progress, the first included."""
    max_wait_seconds: float
    random: random.Random = attrs.field(factory=random.Random)
    _failed: int = 0

    def progress(self) -> None:
        """The last try got further than the ones before."""
        self._failed = 0

    async def wait(self, failure: Transient) -> None:
        """Waits before the next try: twice as long each time, by chance up to a half less, and as long as was asked.

        Raises `RegistryUnavailable` where there is to be none.
        """
        self._failed += 1
        if self._failed >= self.attempts:
            tries = f" (tried {self.attempts} times)" if self.attempts > 1 else ""
            raise RegistryUnavailable(f"{failure}{tries}") from failure
        if failure.wait is not None and failure.wait > self.max_wait_seconds:
            raise RegistryUnavailable(
                f"{failure}; it asks to be left alone for {failure.wait:.0f} s: try again then"
            ) from failure
        longest = min(FIRST_DELAY_SECONDS * 2.0 ** (self._failed - 1), LONGEST_DELAY_SECONDS)
        delay = longest * (1 - self.random.random() / 2)
        await trio.sleep(max(delay, failure.wait or 0))

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of the first try that does not fail by a `Transient`. Raises what `wait` does."""
        while True:
            try:
                return await work()
            except Transient as failure:
                await self.wait(failure)
