"""The one answer to an ask: the asker waits for it, the actor settles it, now or later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, final

import outcome
import trio

R = TypeVar("R")


@final
class Reply(Generic[R]):
    """A slot that is settled once, or abandoned by its only waiter, whichever comes first."""

    __slots__ = ("_asker", "_leaving", "_outcome", "abandoned", "deferred")

    def __init__(self) -> None:
        self.abandoned = False
        self.deferred = False
        self._outcome: outcome.Outcome[R] | None = None
        self._asker: trio.lowlevel.Task | None = None
        self._leaving: list[Callable[[], None]] | None = None

    @property
    def pending(self) -> bool:
        """Whether it waits for the actor to come to the message, or for the handler that is at it."""
        return self._outcome is None and not self.abandoned and not self.deferred

    def settle(self, result: outcome.Outcome[R]) -> bool:
        """Give the answer; False when there is one already, or nobody waits for it any more."""
        if self._outcome is not None or self.abandoned:
            return False
        self._outcome = result
        if self._asker is not None:
            trio.lowlevel.reschedule(self._asker)
            self._asker = None
        return True

    async def wait(self) -> R:
        """The answer, or the exception that it is. When cancelled, the reply is abandoned."""
        if self._outcome is None:
            try:
                self._asker = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._interrupted)
            except BaseException:
                self._call_back()
                raise
        assert self._outcome is not None
        return self._outcome.unwrap()

    def on_abandon(self, callback: Callable[[], None]) -> None:
        """Call back when the asker leaves; at once when it has left already."""
        if self.abandoned:
            callback()
        elif self._leaving is None:
            self._leaving = [callback]
        else:
            self._leaving.append(callback)

    def _call_back(self) -> None:
        for callback in self._leaving or ():
            callback()

    def _interrupted(self, raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
        # Now, not when the asker runs again: an answer in between would count as given and reach nobody.
        self.abandoned = True
        self._asker = None
        return trio.lowlevel.Abort.SUCCEEDED


@final
class Deferred(Generic[R]):
    """The duty to answer one ask later: made by `Actor.defer`.

    It is answered once. An answer that nobody waits for any more (the asker was cancelled, or the actor ended
    meanwhile) is dropped in silence. The asker waits for it for as long as the actor lives: when that ends first, the
    ask fails with `ActorDied` or `ActorStopped`.
    """

    __slots__ = ("_answered", "_crash", "_owed", "_reply")

    def __init__(self, reply: Reply[R], owed: set[Reply[R]], crash: Callable[[BaseException], None]) -> None:
        self._reply = reply
        self._owed = owed
        self._crash = crash
        self._answered = False
        reply.on_abandon(lambda: owed.discard(reply))

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the answer any more; true some steps before `on_abandon` calls back."""
        return self._reply.abandoned

    def reply(self, value: R) -> None:
        """Answer with a value; RuntimeError when it was answered before."""
        self._settle(outcome.Value(value))

    def fail(self, error: Exception) -> None:
        """Answer with an exception, which the asker gets as it is; RuntimeError when it was answered before."""
        self._settle(outcome.Error(error))

    def on_abandon(self, callback: Callable[[], None]) -> None:
        """Call back when the asker's scope is cancelled before the answer; at once if it already was.

        This is where shared work ends when the last of those who asked for it has left. The callback is synchronous;
        what it raises crashes the actor.
        """

        def guarded() -> None:
            try:
                callback()
            except Exception as error:
                self._crash(error)

        self._reply.on_abandon(guarded)

    def _settle(self, result: outcome.Outcome[R]) -> None:
        if self._answered:
            raise RuntimeError("this ask has been answered already")
        self._answered = True
        self._owed.discard(self._reply)
        self._reply.settle(result)
