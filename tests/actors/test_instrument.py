"""Instruments: what they are shown, and what their own failures do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from actors import Actor, ActorDied, ActorRef, ChildSpec, Message, Restart, Terminated, open_supervisor
from tests.actors.toys import Add, Boom, Counter, GetCount, counter, settle, temporary


@attrs.define
class Notes:
    """An instrument that notes all, and fails on demand."""

    seen: list[object] = attrs.field(factory=list)
    fails_at: str = ""

    def note(self, what: str, *details: object) -> None:
        self.seen.append((what, *details))
        if what == self.fails_at:
            raise Boom(what)

    def on_send(self, ref: ActorRef, message: Message[Any], *, asks: bool) -> object:
        self.note("send", ref.name, message, asks)
        return len(self.seen)

    def on_handle(
        self, ref: ActorRef, message: Message[Any], sent: object, *, asks: bool
    ) -> Callable[[BaseException | None], object]:
        self.note("handle", ref.name, message, sent, asks)
        return lambda error: self.note("handled", error)

    def on_start(self, ref: ActorRef) -> Callable[[BaseException | None], object]:
        self.note("start", ref.name)
        return lambda error: self.note("end", error)


async def test_an_instrument_sees_each_message_sent_and_handled_and_each_life() -> None:
    notes = Notes()
    async with open_supervisor(instrument=notes) as supervisor:
        ref = await supervisor.start_child(counter("a"))
        await ref.ask(GetCount())
        ref.tell_nowait(Add())
        await settle()
    assert notes.seen == [
        ("start", "a"),
        ("send", "a", GetCount(), True),
        ("handle", "a", GetCount(), 2, True),
        ("handled", None),
        ("send", "a", Add(), False),
        ("handle", "a", Add(), 5, False),
        ("handled", None),
        ("end", None),
    ]


async def test_the_end_of_a_watched_actor_is_handled_though_nobody_sent_it() -> None:
    class Watcher(Counter):
        async def started(self) -> None:
            self.watch(mortal)

        async def handle(self, message: Message[Any]) -> Any:
            return None

    notes = Notes()
    async with open_supervisor(instrument=notes) as supervisor:
        mortal = await supervisor.start_child(counter("mortal"))
        await supervisor.start_child(ChildSpec("watcher", Watcher))
        await supervisor.stop_child(mortal)
        await settle()
    assert ("handle", "watcher", Terminated(mortal, None), None, False) in notes.seen


async def test_a_failure_when_sending_is_the_senders_and_nothing_is_sent() -> None:
    async with open_supervisor(instrument=Notes(fails_at="send")) as supervisor:
        ref = await supervisor.start_child(counter())
        with pytest.raises(Boom):
            await ref.ask(GetCount())
        with pytest.raises(Boom):
            await ref.tell(Add())
        assert supervisor.tree().children[0].life == 1


@pytest.mark.parametrize("fails_at", ["handle", "handled"])
async def test_a_failure_around_a_message_crashes_the_actor(fails_at: str) -> None:
    async with open_supervisor(instrument=Notes(fails_at=fails_at)) as supervisor:
        ref = await supervisor.start_child(temporary())
        with pytest.raises(ActorDied):
            await ref.ask(GetCount())
        assert isinstance(await ref.wait_ended(), Boom)


async def test_a_failure_at_the_start_fails_the_start() -> None:
    async with open_supervisor(instrument=Notes(fails_at="start")) as supervisor:
        with pytest.raises(Boom):
            await supervisor.start_child(counter())


async def test_a_failure_at_the_end_is_a_crash_of_that_actor_alone() -> None:
    class Leaving(Actor):
        async def handle(self, message: Message[Any]) -> Any:
            self.stop()

    async with open_supervisor(instrument=Notes(fails_at="end")) as supervisor:
        ref = await supervisor.start_child(ChildSpec("leaving", Leaving, restart=Restart.TEMPORARY))
        await ref.tell(Add())
        assert isinstance(await ref.wait_ended(), Boom)
        assert supervisor.tree().children == ()
