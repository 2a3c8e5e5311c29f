"""Who waits for whom: finds the circle in which actors would wait for each other for ever, before it closes."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, final

import trio

from actors.errors import AskCycle
from actors.reply import Reply

_turns: ContextVar[Turn] = ContextVar("actors.turn")


@final
class Turn:
    """What the hooks of one actor wait for at present.

    An actor takes no message while one of its hooks runs. So who waits for it waits, too, for whatever that hook waits
    for. A hook is the task of the actor's life, and the tasks in nurseries that it opened, since it ends after them.
    """

    __slots__ = ("_older_nurseries", "_task", "_waits", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._task: trio.lowlevel.Task | None = None
        self._older_nurseries = 0
        self._waits: dict[trio.lowlevel.Task, tuple[Turn, Reply[Any] | None]] | None = None

    def take(self) -> None:
        """The current task, and those that it starts, belong to this actor."""
        self._task = trio.lowlevel.current_task()
        _turns.set(self)

    def begin_hook(self) -> None:
        """The task runs a hook from now on: nurseries that earlier ones left open are not waited for."""
        assert self._task is not None
        self._older_nurseries = len(self._task.child_nurseries)

    def begin_wait(self, target: Turn, reply: Reply[Any] | None) -> None:
        """The current task, of a hook, is about to wait: for `reply` from `target`, or else for room in its mailbox.

        Raises `AskCycle` if that would never come, since `target` waits for this actor.
        """
        path = target._path_to(self)
        if path is not None:
            circle = " -> ".join([self.name, *path])
            raise AskCycle(f"{circle}: each would wait for the next; break the circle with `tell`, `defer` or a task")
        if self._waits is None:
            self._waits = {}
        self._waits[trio.lowlevel.current_task()] = (target, reply)

    def end_wait(self) -> None:
        """The wait of the current task is over."""
        assert self._waits is not None
        del self._waits[trio.lowlevel.current_task()]

    def _has_hook_in(self, task: trio.lowlevel.Task) -> bool:
        """Whether a hook cannot end before `task`."""
        while task is not self._task:
            nursery = task.parent_nursery
            if nursery is None:
                return False
            task = nursery.parent_task
            if task is self._task:
                return nursery in task.child_nurseries[self._older_nurseries :]
        return True

    def _path_to(self, goal: Turn) -> list[str] | None:
        """The names from this actor to `goal`, each of which waits for the next; None if there is no such path."""
        found: dict[Turn, Turn | None] = {self: None}
        pending = [self]
        while pending:
            turn = pending.pop()
            if turn is goal:
                path = []
                step: Turn | None = turn
                while step is not None:
                    path.append(step.name)
                    step = found[step]
                return path[::-1]
            for target, reply in (turn._waits or {}).values():
                # A deferred reply comes from outside of the hooks, and may come at any time.
                if target not in found and (reply is None or reply.pending):
                    found[target] = turn
                    pending.append(target)
        return None


def turn_of_hook() -> Turn | None:
    """The actor that waits with the current task; None in background tasks and outside of actors."""
    turn = _turns.get(None)
    return turn if turn is not None and turn._has_hook_in(trio.lowlevel.current_task()) else None
