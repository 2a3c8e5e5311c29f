"""When a box that ended on its own is started again: data and pure decisions."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Final, Self

import attrs

from boxlite.boxes.text import encode
from boxlite.errors import InvalidCommand, InvalidOptions

MAX_RETRIES: Final = 10**9 - 1
"""The most that `on-failure:N` may name."""


class RestartKind(enum.StrEnum):
    """The policies, as Docker names them."""

    NO = "no"
    ON_FAILURE = "on-failure"
    """After its machine died or became unhealthy."""
    UNLESS_STOPPED = "unless-stopped"
    """The same, and when the next runtime opens its home, unless it was stopped by hand."""
    ALWAYS = "always"
    """The same, also where it was stopped by hand before."""


@attrs.frozen
class RestartPolicy:
    """What happens when a box ends without having been asked to.

    `max_retries` bounds the restarts under `ON_FAILURE`; None is no bound.
    """

    kind: RestartKind = RestartKind.NO
    max_retries: int | None = None

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.kind, RestartKind):
            raise InvalidOptions(f"the kind is a RestartKind, not {self.kind!r}; RestartPolicy.parse reads texts")
        if self.max_retries is None:
            return
        if self.kind is not RestartKind.ON_FAILURE:
            raise InvalidOptions(f"max_retries is for the policy on-failure, not for {self.kind}")
        if type(self.max_retries) is not int or not 1 <= self.max_retries <= MAX_RETRIES:
            raise InvalidOptions(
                f"max_retries must be a whole number from 1 to {MAX_RETRIES}, not {self.max_retries!r}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:N`; raises `InvalidOptions`."""
        match = re.fullmatch(r"(no|always|unless-stopped|on-failure)(?::([0-9]{1,9}))?", text)
        if match is None:
            raise InvalidOptions(
                f"a restart policy is no, on-failure[:max-retries], always or unless-stopped, not {text!r}"
            )
        return cls(RestartKind(match[1]), None if match[2] is None else int(match[2]))

    def __str__(self) -> str:
        return str(self.kind) + ("" if self.max_retries is None else f":{self.max_retries}")


def _words(command: Iterable[str]) -> tuple[str, ...]:
    return tuple(command)


@attrs.frozen
class HealthCheck:
    """A command that tells whether a box is well: it is when the command exits with 0. Times are in seconds.

    Failures within `start_period` of the box's start do not count. After `retries` failures in a row the box is
    unhealthy: that is an event, and under a restart policy its machine is ended and started again.
    """

    command: tuple[str, ...] = attrs.field(converter=_words)
    interval: float = attrs.field(default=30.0, converter=float)
    timeout: float = attrs.field(default=30.0, converter=float)
    retries: int = 3
    start_period: float = attrs.field(default=0.0, converter=float)

    def __attrs_post_init__(self) -> None:
        if not self.command or not all(isinstance(word, str) for word in self.command):
            raise InvalidOptions(f"the command of a health check is a sequence of words, not {self.command!r}")
        try:
            for word in self.command:
                encode("word of a health check's command", word)
        except InvalidCommand as error:
            raise InvalidOptions(str(error)) from error
        for name in ("interval", "timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidOptions(f"{name} of a health check must be a positive number of seconds")
        if not 0 <= self.start_period < float("inf"):
            raise InvalidOptions("start_period of a health check must be a number of seconds that is not negative")
        if type(self.retries) is not int or self.retries < 1:
            raise InvalidOptions(f"retries of a health check must be at least 1, not {self.retries!r}")
