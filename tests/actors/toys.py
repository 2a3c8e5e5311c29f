"""Actors and messages that several tests use."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import outcome
import trio
import trio.testing

from actors import Actor, ActorRef, ChildSpec, Deferred, Message, Restart


class Refused(Exception):
    pass


class Boom(Exception):
    pass


@attrs.frozen
class Add(Message[None]):
    amount: int = 1


@attrs.frozen
class GetCount(Message[int]):
    pass


@attrs.frozen
class Raise(Message[None]):
    """Makes the handler raise."""

    error: BaseException


@attrs.frozen
class Hold(Message[str]):
    """Keeps the handler busy until `release` is set."""

    begun: trio.Event = attrs.field(factory=trio.Event)
    release: trio.Event = attrs.field(factory=trio.Event)


@attrs.frozen
class Later(Message[str]):
    """Is deferred: the actor keeps the promise in `Counter.promises`."""


@attrs.frozen
class CrashInBackground(Message[None]):
    error: Exception
    release: trio.Event = attrs.field(factory=trio.Event)


@attrs.frozen
class Finish(Message[str]):
    """Makes the actor end its life on its own."""


class Counter(Actor):
    """Counts; `log` gets the steps of its life."""

    rejections: ClassVar[tuple[type[Exception], ...]] = (Refused,)

    def __init__(self, log: list[str] | None = None, name: str = "counter") -> None:
        self.count = 0
        self.log = log if log is not None else []
        self.name = name
        self.promises: list[Deferred[str]] = []

    async def started(self) -> None:
        self.log.append(f"{self.name} started")

    async def stopped(self) -> None:
        self.log.append(f"{self.name} stopped")

    async def handle(self, message: Message[Any]) -> Any:
        match message:
            case Add(amount):
                self.count += amount
            case GetCount():
                return self.count
            case Raise(error):
                raise error
            case Hold(begun, release):
                begun.set()
                await release.wait()
                return "held"
            case Later():
                self.promises.append(self.defer(message))
            case CrashInBackground(error, release):
                self.start_soon(self._crash, error, release)
            case Finish():
                self.stop()
                return "finished"
            case _:
                return await super().handle(message)
        return None

    async def _crash(self, error: Exception, release: trio.Event) -> None:
        await release.wait()
        raise error


class SlowStart(Counter):
    """Takes some checkpoints to get ready."""

    async def started(self) -> None:
        self.log.append(f"{self.name} begins")
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        await super().started()


class Stuck(Counter):
    """Never gets ready."""

    async def started(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.log.append(f"{self.name} undone")


def counter(name: str = "counter", log: list[str] | None = None, **options: Any) -> ChildSpec:
    """A child that counts."""
    return ChildSpec(name, lambda: Counter(log, name), **options)


def temporary(name: str = "counter", log: list[str] | None = None) -> ChildSpec:
    return counter(name, log, restart=Restart.TEMPORARY)


class Asking:
    """An ask in a task of its own, so that a test can look at how it ended."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.result: outcome.Outcome[object] | None = None

    async def run(self, ref: ActorRef, message: Message[object], priority: bool) -> None:
        with self.scope:
            try:
                self.result = outcome.Value(await ref.ask(message, priority=priority))
            except Exception as error:
                self.result = outcome.Error(error)

    @property
    def error(self) -> BaseException:
        assert isinstance(self.result, outcome.Error)
        return self.result.error

    @property
    def value(self) -> object:
        assert isinstance(self.result, outcome.Value)
        return self.result.value


async def asking(nursery: trio.Nursery, ref: ActorRef, message: Message[object], *, priority: bool = False) -> Asking:
    """Send an ask, and return when it waits for its answer."""
    task = Asking()
    nursery.start_soon(task.run, ref, message, priority)
    await settle()
    return task


async def settle() -> None:
    """Let every task run until it waits."""
    await trio.testing.wait_all_tasks_blocked()
