"""How children and supervisors are to be supervised, as data."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import Any, TypeVar

import attrs
from attrs import validators

from actors.actor import Actor
from actors.backoff import Backoff

T = TypeVar("T")

_count: Callable[[Any, Any, Any], Any] = validators.optional(validators.ge(0))


class Restart(enum.Enum):
    """When a child that has ended on its own is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """After a crash only."""
    TEMPORARY = "temporary"
    """Never, not with its siblings either."""

    def covers(self, error: BaseException | None) -> bool:
        """Whether a child that ended by `error` (None: without one) is to be started again."""
        match self:
            case Restart.PERMANENT:
                return True
            case Restart.TRANSIENT:
                return error is not None
            case Restart.TEMPORARY:
                return False


class MailboxPolicy(enum.Enum):
    """What becomes of the messages in the mailbox when a life ends and another one follows.

    The message at hand is never handled again.
    """

    DROP = "drop"
    """They are dropped; their asks fail with `ActorRestarting`."""
    KEEP = "keep"
    """They wait for the next life."""


class Strategy(enum.Enum):
    """Who is restarted when a child is restarted because it ended."""

    ONE_FOR_ONE = "one_for_one"
    """That child alone."""
    ONE_FOR_ALL = "one_for_all"
    """All children."""
    REST_FOR_ONE = "rest_for_one"
    """That child, and those that were started after it."""

    def siblings(self, child: T, newest_first: Iterable[T]) -> Iterator[T]:
        """Who goes down with `child`, of the children `newest_first`, in that order; reads no further than it must."""
        match self:
            case Strategy.ONE_FOR_ONE:
                return iter(())
            case Strategy.ONE_FOR_ALL:
                return (one for one in newest_first if one is not child)
            case Strategy.REST_FOR_ONE:
                return takewhile(lambda one: one is not child, newest_first)


class AutoShutdown(enum.Enum):
    """When a supervisor ends because significant children have: for good and on their own, not by being stopped."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    """With the first of them."""
    ALL_SIGNIFICANT = "all_significant"
    """With the last of them."""


def _restarts_leave_an_end(spec: ChildSpec | SupervisorSpec, attribute: object, significant: bool) -> None:
    if significant and spec.restart is Restart.PERMANENT:
        raise ValueError(f"{spec.name} cannot be significant: a permanent child never ends on its own")


@attrs.frozen
class ChildSpec:
    """One child: its name, how to make it, and what its supervisor does about its end."""

    name: str = attrs.field(validator=validators.min_len(1))
    """Unique under its supervisor."""

    factory: Callable[[], Actor]
    """Makes the actor anew for each life."""

    restart: Restart = attrs.field(default=Restart.PERMANENT, kw_only=True)

    shutdown: float = attrs.field(default=5.0, kw_only=True, validator=validators.ge(0))
    """Seconds that a stop gives to the message at hand, and then as many to the `stopped` hook."""

    mailbox: int = attrs.field(default=64, kw_only=True, validator=validators.ge(1))
    """How many messages wait before `tell` does; the priority lane has as many places of its own."""

    on_restart: MailboxPolicy = attrs.field(default=MailboxPolicy.DROP, kw_only=True)

    backoff: Backoff | None = attrs.field(default=None, kw_only=True)
    """How long to wait before each restart; None is not at all."""

    max_restarts: int | None = attrs.field(default=None, kw_only=True, validator=_count)
    """Restarts in all, after which the next end is for good. That is no escalation. None is no limit."""

    significant: bool = attrs.field(default=False, kw_only=True, validator=_restarts_leave_an_end)
    """Whether its end counts for `AutoShutdown`. Not for permanent children."""

    expected: tuple[type[Exception], ...] = attrs.field(default=(), kw_only=True)
    """Crashes that are no bugs, and so are logged as information without a traceback, as OTP's `{shutdown, _}` is."""


def _in_order(children: Iterable[ChildSpec | SupervisorSpec]) -> tuple[ChildSpec | SupervisorSpec, ...]:
    return tuple(children)


def _unique_names(spec: SupervisorSpec, attribute: object, children: tuple[ChildSpec | SupervisorSpec, ...]) -> None:
    names = [child.name for child in children]
    if len(set(names)) < len(names):
        raise ValueError(f"the children of {spec.name} need different names, not {names}")


@attrs.frozen
class SupervisorSpec:
    """A supervisor: its strategy, its limits, and the children that each of its lives begins with.

    `restart`, `backoff`, `max_restarts` and `significant` are for the supervisor above it, as in `ChildSpec`. There is
    no `shutdown`: its stop is the stops of its children, each within its own bounds.
    """

    name: str = attrs.field(validator=validators.min_len(1))

    children: tuple[ChildSpec | SupervisorSpec, ...] = attrs.field(
        default=(), converter=_in_order, kw_only=True, validator=_unique_names
    )
    """In the order of their start; they are stopped in the reverse one."""

    strategy: Strategy = attrs.field(default=Strategy.ONE_FOR_ONE, kw_only=True)

    intensity: int | None = attrs.field(default=3, kw_only=True, validator=_count)
    """How many restarts in `period` seconds are not too many yet; None is no limit."""

    period: float = attrs.field(default=5.0, kw_only=True, validator=validators.gt(0))

    auto_shutdown: AutoShutdown = attrs.field(default=AutoShutdown.NEVER, kw_only=True)

    restart: Restart = attrs.field(default=Restart.PERMANENT, kw_only=True)

    backoff: Backoff | None = attrs.field(default=None, kw_only=True)

    max_restarts: int | None = attrs.field(default=None, kw_only=True, validator=_count)

    significant: bool = attrs.field(default=False, kw_only=True, validator=_restarts_leave_an_end)
