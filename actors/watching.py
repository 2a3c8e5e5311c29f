"""The end of an actor, and those who wait to hear of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import attrs
import trio

from actors.mailbox import Letter, Mailbox
from actors.messages import Message

if TYPE_CHECKING:
    from actors.ref import ActorRef


@attrs.frozen
class Terminated(Message[None]):
    """Told to an actor that watches another one (`Actor.watch`) when that has ended for good.

    `error` is what its last life ended by; None if it was stopped or ended without one.
    """

    ref: ActorRef
    error: BaseException | None


@final
class Ending:
    """Comes once for an address. Restarts are not it."""

    __slots__ = ("_event", "_listeners", "came", "error")

    def __init__(self) -> None:
        self.came = False
        self.error: BaseException | None = None
        """Set when it has come."""
        self._event: trio.Event | None = None
        self._listeners: dict[object, Callable[[BaseException | None], None]] | None = None

    def come(self, error: BaseException | None) -> None:
        """Tell all who listen and wait."""
        self.came, self.error = True, error
        listeners, self._listeners = self._listeners, None
        if self._event is not None:
            self._event.set()
        for listener in (listeners or {}).values():
            listener(error)

    def listen(self, key: object, listener: Callable[[BaseException | None], None]) -> None:
        """Call back when it comes, at once if it has; `listener` must not raise. A key has one listener, the last."""
        if self.came:
            listener(self.error)
            return
        if self._listeners is None:
            self._listeners = {}
        self._listeners[key] = listener

    def ignore(self, key: object) -> None:
        """Forget the listener of `key`, if it has one."""
        if self._listeners is not None:
            self._listeners.pop(key, None)
            if not self._listeners:
                self._listeners = None

    async def wait(self) -> BaseException | None:
        """Wait until it has come, and return the error."""
        if self._event is None:
            self._event = trio.Event()
            if self.came:
                self._event.set()
        await self._event.wait()
        return self.error


@final
class Watches:
    """The addresses whose ends one life of an actor wants to hear of, in its mailbox."""

    __slots__ = ("_mailbox", "_refs")

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._refs: set[ActorRef] = set()

    def add(self, ref: ActorRef) -> None:
        """See `Actor.watch`."""
        if ref not in self._refs:
            self._refs.add(ref)
            ref._ending.listen(self, lambda error: self._hear(ref, error))

    def remove(self, ref: ActorRef) -> None:
        """See `Actor.unwatch`."""
        self._refs.discard(ref)
        ref._ending.ignore(self)
        self._mailbox.withdraw(lambda letter: isinstance(letter.message, Terminated) and letter.message.ref is ref)

    def end(self) -> None:
        """The life is over: the next one hears of nothing that this one watched."""
        for ref in self._refs:
            ref._ending.ignore(self)
        self._refs.clear()
        self._mailbox.withdraw(lambda letter: isinstance(letter.message, Terminated))

    def _hear(self, ref: ActorRef, error: BaseException | None) -> None:
        self._refs.discard(ref)
        self._mailbox.announce(Letter(Terminated(ref, error), None))
