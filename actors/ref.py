"""The address of an actor."""

from __future__ import annotations

from typing import Any, TypeVar, final

import trio

from actors.errors import MailboxFull
from actors.mailbox import Letter, Mailbox
from actors.messages import Message
from actors.reply import Reply

R = TypeVar("R")


@final
class ActorRef:
    """An address: it stays valid when the actor is restarted. `Supervisor.start_child` and `Actor.ref` give it out.

    All its methods raise `ActorStopped` once the actor has ended for good. What is sent during a restart waits for
    the new actor. With `priority`, a message overtakes all that have none: for stops and probes, which must never wait
    behind work.
    """

    __slots__ = ("_mailbox", "_name")

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self._name = name
        self._mailbox = mailbox

    @property
    def name(self) -> str:
        """The name that `ChildSpec` gave; unique under its supervisor."""
        return self._name

    def __repr__(self) -> str:
        return f"<ActorRef {self._name}>"

    @trio.lowlevel.enable_ki_protection
    async def tell(self, message: Message[Any], *, priority: bool = False) -> None:
        """Put a message into the mailbox, and wait for room there first. When cancelled, it was not put.

        Whether it is handled cannot be known: a crash drops what is in the mailbox.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        letter = Letter(message, None)
        if self._mailbox.put_nowait(letter, priority):
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._mailbox.put(letter, priority)

    @trio.lowlevel.enable_ki_protection
    def tell_nowait(self, message: Message[Any], *, priority: bool = False) -> None:
        """As `tell`, but raise `MailboxFull` instead of waiting."""
        if not self._mailbox.put_nowait(Letter(message, None), priority):
            raise MailboxFull(
                f"the mailbox of {self._name} is full; wait for room with `tell`, or give it more capacity"
            )

    @trio.lowlevel.enable_ki_protection
    async def ask(self, message: Message[R], *, priority: bool = False) -> R:
        """Send a message and wait for the reply; the caller's cancel scope is the only timeout.

        Ends exactly once: with the reply; with an exception that the actor declares (`Actor.rejections`) or gave to a
        `Deferred`; or with `ActorRestarting`, `ActorDied` or `ActorStopped`. When cancelled, a message that still is in
        the mailbox will not be handled; one that is being handled goes on, and its reply is dropped.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        reply: Reply[R] = Reply()
        letter = Letter(message, reply)
        if not self._mailbox.put_nowait(letter, priority):
            await self._mailbox.put(letter, priority)
        return await reply.wait()
