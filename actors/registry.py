"""Names by which actors of any tree find each other."""

from __future__ import annotations

from typing import final

import attrs
import trio

from actors.errors import ActorStopped, NameTaken, UnknownName
from actors.ref import ActorRef


@final
class Registry:
    """Unique names for actors; each is given up at its actor's end for good, and kept over restarts.

    There is no global one: whoever is to look names up is given the registry, usually by the factory in `ChildSpec`.
    The names are its own, and have nothing to do with those of `ChildSpec`; an actor may have several.
    """

    def __init__(self) -> None:
        self._refs: dict[str, ActorRef] = {}
        self._awaited: dict[str, _Awaited] = {}

    def register(self, name: str, ref: ActorRef) -> None:
        """Give `ref` the name. Again for the same actor it does nothing.

        Raises `NameTaken` if another actor has it, and `ActorStopped` if this one has ended.
        """
        holder = self._refs.get(name)
        if holder is ref:
            return
        if holder is not None:
            raise NameTaken(f"{name} is the name of {holder!r} already; unregister it first, or choose another name")
        if ref.ended:
            raise ActorStopped(f"{ref.name} has ended, and can no longer be registered as {name}")
        self._refs[name] = ref
        ref._ending.listen((self, name), lambda error: self.unregister(name))
        awaited = self._awaited.pop(name, None)
        if awaited is not None:
            awaited.ref = ref
            awaited.event.set()

    def unregister(self, name: str) -> None:
        """Free the name; raises `UnknownName` if nobody has it."""
        ref = self._refs.pop(name, None)
        if ref is None:
            raise UnknownName(f"no actor is registered as {name}")
        ref._ending.ignore((self, name))

    def whereis(self, name: str) -> ActorRef | None:
        """The actor of that name at this moment."""
        return self._refs.get(name)

    def names(self) -> tuple[str, ...]:
        """All names, the oldest first."""
        return tuple(self._refs)

    async def wait_for(self, name: str) -> ActorRef:
        """The actor of that name, at once or as soon as there is one. It may have ended when the caller runs again."""
        ref = self._refs.get(name)
        if ref is not None:
            await trio.lowlevel.checkpoint()
            return ref
        awaited = self._awaited.setdefault(name, _Awaited())
        awaited.waiters += 1
        try:
            await awaited.event.wait()
        finally:
            awaited.waiters -= 1
            if not awaited.waiters and self._awaited.get(name) is awaited:
                del self._awaited[name]
        assert awaited.ref is not None
        return awaited.ref


@attrs.define(eq=False)
class _Awaited:
    """A name that tasks wait for; forgotten when the last of them has left."""

    event: trio.Event = attrs.field(factory=trio.Event)
    ref: ActorRef | None = None
    waiters: int = 0
