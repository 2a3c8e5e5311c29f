"""What a pool is to keep: data."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from boxlite.boxes.command import make_command
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.text import Text
from boxlite.errors import InvalidOptions
from boxlite.pools.policy import PoolPolicy


def _words(argv: Sequence[Text]) -> tuple[bytes, ...]:
    if not isinstance(argv, str) and not argv:
        return ()
    command = make_command(argv, env=None, cwd=None, user=None, tty=None, timeout=None, merge_stderr=False)
    return command.argv


@attrs.frozen
class PoolSpec:
    """Checked when made: raises `InvalidOptions`, or `InvalidCommand` for what cannot be `warm_up`."""

    size: int
    options: BoxOptions
    """Of every box; the name is the pool's own."""
    warm_up: tuple[bytes, ...] = attrs.field(converter=_words)
    """What a new box runs before anybody gets it; may be empty."""
    policy: PoolPolicy

    def __attrs_post_init__(self) -> None:
        if type(self.size) is not int or self.size < 0:
            raise InvalidOptions(f"the size of a pool is a whole number that is not negative, not {self.size!r}")
        if not isinstance(self.policy, PoolPolicy):
            raise InvalidOptions(f"the policy of a pool is a PoolPolicy, not {self.policy!r}")

    @property
    def name(self) -> str:
        """Unique among the pools of a runtime; the names of its boxes begin with it."""
        return self.options.name
