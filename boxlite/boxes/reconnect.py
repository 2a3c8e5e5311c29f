"""Calls to a guest that survive the loss of a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from boxlite.errors import PortalLost
from boxlite.portal.interface import GuestSession

T = TypeVar("T")


class Connections(Protocol):
    """One connection to a guest after the other; see `Machine.reconnected`."""

    async def reconnected(self, lost: GuestSession | None) -> GuestSession:
        """The connection that follows `lost`; raises `BoxDied` where none will."""


async def on_any_connection(machine: Connections, call: Callable[[GuestSession], Awaitable[T]]) -> T:
    """Makes a call, and makes it again on the next connection whenever one is lost under it.

    For calls that may be repeated: after `PortalLost` nobody knows whether the guest got it. Raises `BoxDied` when the
    machine ends, and whatever else the call raises.
    """
    lost: GuestSession | None = None
    while True:
        session = await machine.reconnected(lost)
        try:
            return await call(session)
        except PortalLost:
            lost = session
