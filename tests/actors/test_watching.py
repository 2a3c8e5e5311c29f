"""Watching: who watches hears of an end once, and of nothing else."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import Actor, ActorRef, ChildSpec, MailboxPolicy, Message, Restart, Terminated, open_supervisor
from tests.actors.toys import Boom, Counter, Finish, Hold, Raise, asking, counter, settle, temporary


@attrs.frozen
class Watch(Message[None]):
    ref: ActorRef


@attrs.frozen
class Unwatch(Message[None]):
    ref: ActorRef


class Watcher(Counter):
    """Notes what it hears."""

    def __init__(self, heard: list[Terminated]) -> None:
        super().__init__()
        self.heard = heard

    async def handle(self, message: Message[Any]) -> Any:
        match message:
            case Watch(ref):
                self.watch(ref)
            case Unwatch(ref):
                self.unwatch(ref)
            case Terminated():
                self.heard.append(message)
            case _:
                return await super().handle(message)
        return None


def watcher(heard: list[Terminated], **options: Any) -> ChildSpec:
    return ChildSpec("watcher", lambda: Watcher(heard), **options)


async def test_a_watcher_hears_of_a_crash_that_ends_an_actor_for_good() -> None:
    heard: list[Terminated] = []
    crash = Boom()
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(watcher(heard))
        mortal = await supervisor.start_child(temporary())
        await ref.ask(Watch(mortal))
        await ref.ask(Watch(mortal))
        await mortal.tell(Raise(crash))
        await settle()
    assert heard == [Terminated(mortal, crash)]


async def test_a_stop_is_an_end_without_an_error_and_comes_after_the_clean_up() -> None:
    class Slow(Counter):
        async def stopped(self) -> None:
            await gate.wait()

    gate = trio.Event()
    heard: list[Terminated] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(watcher(heard))
        mortal = await supervisor.start_child(ChildSpec("slow", Slow))
        await ref.ask(Watch(mortal))
        nursery.start_soon(supervisor.stop_child, mortal)
        await settle()
        assert heard == []
        assert not mortal.ended
        gate.set()
        await settle()
        assert heard == [Terminated(mortal, None)]
        assert mortal.ended


async def test_a_restart_is_no_end() -> None:
    heard: list[Terminated] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(watcher(heard))
        phoenix = await supervisor.start_child(counter())
        await ref.ask(Watch(phoenix))
        await phoenix.tell(Raise(Boom()))
        await settle()
        assert supervisor.tree().children[1].life == 2
        assert heard == []


async def test_whoever_has_ended_already_is_reported_at_once() -> None:
    heard: list[Terminated] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(watcher(heard))
        mortal = await supervisor.start_child(counter())
        await supervisor.stop_child(mortal)
        await ref.ask(Watch(mortal))
        await settle()
        assert heard == [Terminated(mortal, None)]


async def test_ends_come_however_full_the_mailbox_is_and_before_what_waits_in_it() -> None:
    heard: list[Terminated] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(watcher(heard, mailbox=1))
        mortals = [await supervisor.start_child(counter(name)) for name in "abc"]
        for mortal in mortals:
            await ref.ask(Watch(mortal))
        hold = Hold()
        await asking(nursery, ref, hold)
        await ref.tell(Finish())
        await ref.tell(Hold(release=hold.release), priority=True)
        for mortal in mortals:
            await supervisor.stop_child(mortal)
        hold.release.set()
        await settle()
    assert heard == [Terminated(mortal, None) for mortal in mortals]


async def test_who_unwatches_hears_nothing_though_the_end_waits_in_the_mailbox() -> None:
    class Hesitating(Watcher):
        async def handle(self, message: Message[Any]) -> Any:
            if isinstance(message, Hold):
                await super().handle(message)
                self.unwatch(mortals[0])
                return None
            return await super().handle(message)

    heard: list[Terminated] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        mortals = [await supervisor.start_child(counter(name)) for name in "abc"]
        ref = await supervisor.start_child(ChildSpec("hesitating", lambda: Hesitating(heard)))
        for mortal in mortals:
            await ref.ask(Watch(mortal))
        await ref.ask(Unwatch(mortals[2]))
        hold = Hold()
        await asking(nursery, ref, hold)
        for mortal in mortals:
            await supervisor.stop_child(mortal)
        hold.release.set()
        await settle()
        assert heard == [Terminated(mortals[1], None)]


@pytest.mark.parametrize("policy", list(MailboxPolicy))
@pytest.mark.parametrize("dies_first", ["watcher", "watched"])
async def test_a_new_life_hears_of_nothing_that_an_earlier_one_watched(policy: MailboxPolicy, dies_first: str) -> None:
    heard: list[Terminated] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(watcher(heard, on_restart=policy))
        mortal = await supervisor.start_child(counter())
        await ref.ask(Watch(mortal))
        hold = Hold()
        await asking(nursery, ref, hold)
        await ref.tell(Raise(Boom()), priority=True)
        if dies_first == "watched":
            await supervisor.stop_child(mortal)
        hold.release.set()
        await settle()
        if dies_first == "watcher":
            await supervisor.stop_child(mortal)
        await settle()
        assert supervisor.tree().children[0].life == 2
        assert heard == []
        assert mortal._ending._listeners is None


@pytest.mark.parametrize("end", [Finish(), Raise(Boom())])
async def test_a_watcher_that_ends_is_forgotten(end: Message[Any]) -> None:
    """Actors that live long must not remember all who ever watched them."""
    async with open_supervisor() as supervisor:
        lasting = await supervisor.start_child(counter())
        ref = await supervisor.start_child(watcher([], restart=Restart.TEMPORARY))
        await ref.ask(Watch(lasting))
        assert lasting._ending._listeners
        await ref.tell(end)
        await settle()
        assert lasting._ending._listeners is None


async def test_a_watcher_that_fails_to_start_is_forgotten() -> None:
    class Failing(Actor):
        async def started(self) -> None:
            self.watch(lasting)
            raise Boom

    async with open_supervisor() as supervisor:
        lasting = await supervisor.start_child(counter())
        with pytest.raises(Boom):
            await supervisor.start_child(ChildSpec("failing", Failing))
        assert lasting._ending._listeners is None


async def test_a_watcher_that_does_not_know_the_message_dies_with_the_watched() -> None:
    class Linked(Counter):
        async def started(self) -> None:
            self.watch(mortal)

    async with open_supervisor() as supervisor:
        mortal = await supervisor.start_child(counter())
        await supervisor.start_child(ChildSpec("linked", Linked, restart=Restart.TEMPORARY))
        await supervisor.stop_child(mortal)
        await settle()
        assert supervisor.tree().children == ()


async def test_nobody_watches_itself() -> None:
    class Vain(Counter):
        async def started(self) -> None:
            with pytest.raises(ValueError, match="vain cannot watch itself"):
                self.watch(self.ref)

    async with open_supervisor() as supervisor:
        await supervisor.start_child(ChildSpec("vain", Vain))


async def test_plain_tasks_wait_for_an_end_and_get_its_error() -> None:
    ends: list[BaseException | None] = []

    async def wait(ref: ActorRef) -> None:
        ends.append(await ref.wait_ended())

    crash = Boom()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(temporary())
        nursery.start_soon(wait, ref)
        nursery.start_soon(wait, ref)
        await settle()
        assert ends == []
        await ref.tell(Raise(crash))
        await settle()
        assert ends == [crash, crash]
        assert await ref.wait_ended() is crash


async def test_waiting_for_an_end_is_cancellable_and_outlives_restarts() -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        await ref.tell(Raise(Boom()))
        await settle()
        with trio.move_on_after(0) as scope:
            await ref.wait_ended()
        assert scope.cancelled_caught
        await supervisor.stop_child(ref)
        assert await ref.wait_ended() is None
