"""The registry: a name has one actor, and an actor that has ended has no name."""

from __future__ import annotations

import pytest
import trio

from actors import ActorRef, ActorStopped, NameTaken, Registry, UnknownName, open_supervisor
from tests.actors.toys import Boom, Raise, counter, settle, temporary


async def test_a_name_leads_to_its_actor_until_it_is_freed() -> None:
    registry = Registry()
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        assert registry.whereis("clock") is None
        registry.register("clock", ref)
        registry.register("clock", ref)
        registry.register("watch", ref)
        assert registry.whereis("clock") is ref
        assert registry.names() == ("clock", "watch")
        registry.unregister("clock")
        assert registry.names() == ("watch",)
        with pytest.raises(UnknownName, match="clock"):
            registry.unregister("clock")


async def test_a_name_has_one_actor() -> None:
    registry = Registry()
    async with open_supervisor() as supervisor:
        first = await supervisor.start_child(counter("first"))
        second = await supervisor.start_child(counter("second"))
        registry.register("name", first)
        with pytest.raises(NameTaken, match="first"):
            registry.register("name", second)
        registry.unregister("name")
        registry.register("name", second)
        await supervisor.stop_child(first)
        assert registry.whereis("name") is second


async def test_an_actor_keeps_its_names_over_restarts_and_loses_them_at_its_end() -> None:
    registry = Registry()
    async with open_supervisor() as supervisor:
        phoenix = await supervisor.start_child(counter("phoenix"))
        mortal = await supervisor.start_child(temporary("mortal"))
        for name, ref in {"a": phoenix, "b": mortal, "c": mortal}.items():
            registry.register(name, ref)
        await phoenix.tell(Raise(Boom()))
        await mortal.tell(Raise(Boom()))
        await settle()
        assert registry.names() == ("a",)
        with pytest.raises(ActorStopped, match="mortal has ended"):
            registry.register("b", mortal)
    assert registry.names() == ()


async def test_who_waits_for_a_name_gets_its_actor_as_soon_as_there_is_one() -> None:
    found: list[ActorRef] = []

    async def find(name: str) -> None:
        found.append(await registry.wait_for(name))

    registry = Registry()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter())
        nursery.start_soon(find, "name")
        nursery.start_soon(find, "name")
        nursery.start_soon(find, "another")
        await settle()
        registry.register("name", ref)
        registry.unregister("name")
        await settle()
        assert found == [ref, ref]
        registry.register("another", ref)
        assert await registry.wait_for("another") is ref
        await settle()
        assert found == [ref, ref, ref]


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    registry = Registry()
    with trio.move_on_after(0):
        await registry.wait_for("nobody")
    assert registry._awaited == {}
