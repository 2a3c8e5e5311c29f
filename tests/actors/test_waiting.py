"""Circles of asks: found where one would close, and nowhere else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import Actor, ActorDied, ActorRef, AskCycle, ChildSpec, Deferred, Message, Restart, open_supervisor
from tests.actors.toys import Add, Boom, asking, settle


@attrs.frozen
class Do(Message[Any]):
    """Makes the actor do something in its handler."""

    work: Callable[[Doer], Awaitable[Any]]


@attrs.frozen
class Ping(Message[str]):
    pass


class Doer(Actor):
    promise: Deferred[Any]

    async def handle(self, message: Message[Any]) -> Any:
        match message:
            case Do(work):
                return await work(self)
            case Ping():
                return f"pong of {self.ref.name}"
            case _:
                return None


def doer(name: str, **options: Any) -> ChildSpec:
    return ChildSpec(name, Doer, **options)


def asks(ref: ActorRef, message: Message[Any]) -> Do:
    """A message whose handler asks another actor."""
    return Do(lambda actor: ref.ask(message))


def catching(ref: ActorRef, message: Message[Any]) -> Do:
    """The same, answered with the text of the circle."""

    async def work(actor: Doer) -> str:
        with pytest.raises(AskCycle) as caught:
            await ref.ask(message)
        return str(caught.value)

    return Do(work)


async def test_asking_oneself_is_an_error_that_names_the_circle() -> None:
    async with open_supervisor() as supervisor:
        a = await supervisor.start_child(doer("a"))
        assert (await a.ask(catching(a, Ping()))).startswith("a -> a: ")


async def test_asking_in_a_circle_is_an_error_that_names_the_circle() -> None:
    async with open_supervisor() as supervisor:
        a, b, c = [await supervisor.start_child(doer(name)) for name in "abc"]
        text = await a.ask(asks(b, asks(c, catching(a, Ping()))))
        assert text.startswith("c -> a -> b -> c: ")


async def test_an_uncaught_circle_is_a_crash_with_the_circle_as_its_cause() -> None:
    async with open_supervisor() as supervisor:
        a, b = [await supervisor.start_child(doer(name)) for name in "ab"]
        with pytest.raises(ActorDied) as caught:
            await b.ask(asks(a, asks(b, Ping())))
        assert isinstance(caught.value.__cause__, ActorDied)
        assert isinstance(caught.value.__cause__.__cause__, AskCycle)


async def test_a_circle_of_messages_that_do_not_stem_from_each_other_is_found_too() -> None:
    """Each asks the other on its own account: no chain of asks goes round, but neither can go on."""
    gate = trio.Event()

    async def later(actor: Doer) -> str:
        await gate.wait()
        return str(await catching(a, Ping()).work(actor))

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        a, b = [await supervisor.start_child(doer(name)) for name in "ab"]
        second = await asking(nursery, b, Do(later))
        first = await asking(nursery, a, asks(b, Ping()))
        gate.set()
        await settle()
        assert str(second.value).startswith("b -> a -> b: ")
        assert first.value == "pong of b"


async def test_tasks_in_a_nursery_of_the_handler_are_the_handler() -> None:
    async def work(actor: Doer) -> list[str]:
        texts: list[str] = []

        async def ask(ref: ActorRef) -> None:
            with pytest.raises(AskCycle) as caught:
                await ref.ask(Ping())
            texts.append(str(caught.value))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, a)
            nursery.start_soon(ask, actor.ref)
        return sorted(texts)

    async with open_supervisor() as supervisor:
        a, b = [await supervisor.start_child(doer(name)) for name in "ab"]
        texts = await a.ask(asks(b, Do(work)))
        assert [text.partition(":")[0] for text in texts] == ["b -> a -> b", "b -> b"]


async def test_a_background_task_asks_back_while_the_ask_is_deferred() -> None:
    async def work(actor: Doer) -> None:
        promise: Deferred[Any] = actor.defer(message)

        async def ask() -> None:
            promise.reply([await a.ask(Ping()), await b.ask(Ping())])

        actor.start_soon(ask)

    async with open_supervisor() as supervisor:
        a, b = [await supervisor.start_child(doer(name)) for name in "ab"]
        message = Do(work)
        assert await a.ask(message) == ["pong of a", "pong of b"]


async def test_a_handler_may_wait_for_an_actor_whose_answer_is_deferred() -> None:
    """b waits for a, which waits for what b has deferred: b's background task answers, so that is no circle."""
    release = trio.Event()

    async def deferring(actor: Doer) -> None:
        promise: Deferred[Any] = actor.defer(deferred)

        async def answer() -> None:
            await release.wait()
            promise.reply("late")

        actor.start_soon(answer)

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        a, b = [await supervisor.start_child(doer(name)) for name in "ab"]
        deferred = Do(deferring)
        waiting = await asking(nursery, a, asks(b, deferred))
        back = await asking(nursery, b, asks(a, Ping()))
        assert back.result is None
        release.set()
        await settle()
        assert (waiting.value, back.value) == ("late", "pong of a")


async def test_a_task_that_the_handler_starts_elsewhere_is_not_the_handler() -> None:
    async def work(actor: Doer) -> None:
        nursery.start_soon(ask)
        await release.wait()

    async def ask() -> None:
        answers.append(await a.ask(Ping()))

    answers: list[str] = []
    release = trio.Event()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        a = await supervisor.start_child(doer("a"))
        await asking(nursery, a, Do(work))
        release.set()
        await settle()
        assert answers == ["pong of a"]


async def test_a_nursery_that_an_earlier_hook_left_open_is_not_waited_for() -> None:
    class Keeping(Doer):
        async def started(self) -> None:
            self.stack = AsyncExitStack()
            self.nursery = await self.stack.enter_async_context(trio.open_nursery())
            self.nursery.start_soon(self.ask)

        async def ask(self) -> None:
            await begun.wait()
            answers.append(await self.ref.ask(Ping()))

        async def stopped(self) -> None:
            assert answers

        async def handle(self, message: Message[Any]) -> Any:
            if isinstance(message, Add):
                await self.stack.aclose()
                self.stop()
            return await super().handle(message)

    async def work(actor: Doer) -> None:
        begun.set()
        await release.wait()

    answers: list[str] = []
    begun, release = trio.Event(), trio.Event()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        a = await supervisor.start_child(ChildSpec("a", Keeping, restart=Restart.TEMPORARY))
        await asking(nursery, a, Do(work))
        release.set()
        await settle()
        assert answers == ["pong of a"]
        await a.tell(Add())
        await settle()


async def test_who_asked_and_left_waits_no_longer() -> None:
    async def hurried(actor: Doer) -> str:
        with trio.move_on_after(0):
            await b.ask(Do(stuck))
        entered.set()
        await release.wait()
        return "left"

    async def stuck(actor: Doer) -> Any:
        await entered.wait()
        return await a.ask(Ping())

    entered, release = trio.Event(), trio.Event()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        a, b = [await supervisor.start_child(doer(name)) for name in "ab"]
        first = await asking(nursery, a, Do(hurried))
        second = await asking(nursery, b, Do(stuck))
        assert second.result is None
        release.set()
        await settle()
        assert (first.value, second.value) == ("left", "pong of a")


async def test_who_has_its_answer_waits_no_longer_though_it_does_not_know_yet() -> None:
    """b answers a, and asks it in the next message, without a checkpoint in between."""

    async def hold(actor: Doer) -> None:
        await release.wait()

    release = trio.Event()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        a, b = [await supervisor.start_child(doer(name)) for name in "ab"]
        await asking(nursery, b, Do(hold))
        first = await asking(nursery, a, asks(b, Ping()))
        second = await asking(nursery, b, asks(a, Ping()))
        release.set()
        await settle()
        assert (first.value, second.value) == ("pong of b", "pong of a")


@pytest.mark.parametrize("hook", ["started", "stopped"])
async def test_the_other_hooks_take_no_messages_either(hook: str) -> None:
    class Selfish(Actor):
        async def started(self) -> None:
            if hook == "started":
                await self.ref.ask(Ping())

        async def stopped(self) -> None:
            with pytest.raises(AskCycle, match=r"^a -> a:"):
                await self.ref.ask(Ping())
            cleaned.append(True)

        async def handle(self, message: Message[Any]) -> Any:
            raise Boom

    cleaned: list[bool] = []
    async with open_supervisor() as supervisor:
        if hook == "started":
            with pytest.raises(AskCycle, match=r"^a -> a:"):
                await supervisor.start_child(ChildSpec("a", Selfish))
        else:
            a = await supervisor.start_child(ChildSpec("a", Selfish))
            await a.tell(Ping())
            await settle()
            assert cleaned == [True]


async def test_waiting_for_room_that_one_keeps_from_coming_is_a_circle_too() -> None:
    async def flood(actor: Doer) -> str:
        for _ in range(3):
            await a.tell(Ping())
        with pytest.raises(AskCycle) as caught:
            await a.tell(Ping())
        return str(caught.value)

    async with open_supervisor() as supervisor:
        a = await supervisor.start_child(doer("a", mailbox=3))
        b = await supervisor.start_child(doer("b"))
        assert (await a.ask(Do(flood))).startswith("a -> a: ")
        assert (await a.ask(asks(b, Do(flood)))).startswith("b -> a -> b: ")
        assert await a.ask(Ping()) == "pong of a"


async def test_a_full_mailbox_whose_actor_is_free_is_no_circle() -> None:
    async def flood(actor: Doer) -> None:
        for _ in range(100):
            await b.tell(Ping())

    async with open_supervisor() as supervisor:
        a, b = [await supervisor.start_child(doer(name, mailbox=1)) for name in "ab"]
        await a.ask(Do(flood))


async def test_nothing_is_remembered_of_waits_that_are_over() -> None:
    async with open_supervisor() as supervisor:
        a, b = [await supervisor.start_child(doer(name)) for name in "ab"]
        await a.ask(asks(b, Ping()))
        await a.ask(catching(a, Ping()))
        assert not a._turn._waits


PATHS = st.lists(st.integers(0, 4), min_size=1, max_size=8)


@given(paths=st.lists(PATHS, min_size=1, max_size=4), random=st.random_module())
@settings(max_examples=200, deadline=None)
def test_every_ask_ends_and_a_circle_is_told_of_where_there_is_one(paths: list[list[int]], random: object) -> None:
    """Chains of asks along random paths, at the same time: nothing hangs, and a single chain fails where it repeats."""

    async def main() -> None:
        async with open_supervisor(intensity=None) as supervisor:
            refs = [await supervisor.start_child(doer(str(number))) for number in range(5)]

            def chain(path: list[int]) -> Do:
                async def work(actor: Doer) -> bool:
                    await trio.lowlevel.checkpoint()
                    if len(path) < 2:
                        return True
                    try:
                        return bool(await refs[path[1]].ask(chain(path[1:])))
                    except AskCycle:
                        return False

                return Do(work)

            async def run(path: list[int]) -> None:
                results.append(await refs[path[0]].ask(chain(path)))

            results: list[bool] = []
            with trio.fail_after(1e9):
                async with trio.open_nursery() as nursery:
                    for path in paths:
                        nursery.start_soon(run, path)
            assert len(results) == len(paths)
            if len(paths) == 1:
                assert results == [len(set(paths[0])) == len(paths[0])]

    trio.run(main, clock=MockClock(autojump_threshold=0))
