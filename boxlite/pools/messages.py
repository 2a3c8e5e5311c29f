"""What a pool's actor is asked."""

from __future__ import annotations

import attrs

from actors import Message
from boxlite.runtime.messages import BoxRecord


@attrs.frozen
class TakeBox(Message[BoxRecord]):
    """Answers with a box that runs, which is the asker's from then on; first come, first served.

    Rejected with `PoolUnavailable` while the breaker is open and no box is ready. An asker that has been cancelled has
    no box.
    """


@attrs.frozen
class WaitReady(Message[None]):
    """Answers when so many boxes are ready; rejected as `TakeBox` is."""

    count: int
