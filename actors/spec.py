"""How children are to be supervised, as data."""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs

from actors.actor import Actor


class Restart(enum.Enum):
    """When a child that has ended on its own is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """After a crash only."""
    TEMPORARY = "temporary"
    """Never."""

    def covers(self, error: BaseException | None) -> bool:
        """Whether a child that ended by `error` (None: without one) is to be started again."""
        match self:
            case Restart.PERMANENT:
                return True
            case Restart.TRANSIENT:
                return error is not None
            case Restart.TEMPORARY:
                return False


class Strategy(enum.Enum):
    """Who is restarted when a child crashes."""

    ONE_FOR_ONE = "one_for_one"
    """That child alone."""


@attrs.frozen
class ChildSpec:
    """One child: its name, how to make it, and what its supervisor does about its end."""

    name: str = attrs.field(validator=attrs.validators.min_len(1))
    """Unique under its supervisor."""

    factory: Callable[[], Actor]
    """Makes the actor anew for each life."""

    restart: Restart = attrs.field(default=Restart.PERMANENT, kw_only=True)

    shutdown: float = attrs.field(default=5.0, kw_only=True, validator=attrs.validators.ge(0))
    """Seconds that a stop gives to the message at hand, and then as many to the `stopped` hook."""

    mailbox: int = attrs.field(default=64, kw_only=True, validator=attrs.validators.ge(1))
    """How many messages wait before `tell` does; the priority lane has as many places of its own."""
