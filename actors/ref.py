"""The address of an actor."""

from __future__ import annotations

from typing import Any, TypeVar, final

import trio

from actors.errors import MailboxFull
from actors.instrument import Instrument
from actors.mailbox import Letter, Mailbox
from actors.messages import Message
from actors.reply import Reply
from actors.waiting import Turn, turn_of_hook
from actors.watching import Ending

R = TypeVar("R")


@final
class ActorRef:
    """An address: it stays valid when the actor is restarted. `Supervisor.start_child` and `Actor.ref` give it out.

    All its methods of sending raise `ActorStopped` once the actor has ended for good. What is sent during a restart
    waits for the new actor. With `priority`, a message overtakes all that have none: for stops and probes, which must
    never wait behind work.
    """

    __slots__ = ("_ending", "_instrument", "_mailbox", "_name", "_turn")

    def __init__(self, name: str, mailbox: Mailbox, instrument: Instrument | None = None) -> None:
        self._name = name
        self._mailbox = mailbox
        self._instrument = instrument
        self._turn = Turn(name)
        self._ending = Ending()

    @property
    def name(self) -> str:
        """The name that `ChildSpec` gave; unique under its supervisor."""
        return self._name

    @property
    def ended(self) -> bool:
        """Whether the actor has ended for good, its clean-up included."""
        return self._ending.came

    def __repr__(self) -> str:
        return f"<ActorRef {self._name}>"

    @trio.lowlevel.enable_ki_protection
    async def tell(self, message: Message[Any], *, priority: bool = False) -> None:
        """Put a message into the mailbox, and wait for room there first. When cancelled, it was not put.

        Whether it is handled cannot be known: a crash drops what is in the mailbox. Raises `AskCycle` instead of
        waiting for room that the wait itself keeps from coming, as in a handler that tells its own actor.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        letter = Letter(message, None) if self._instrument is None else self._letter(message, None)
        if self._mailbox.put_nowait(letter, priority):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        turn = turn_of_hook()
        if turn is not None:
            turn.begin_wait(self._turn, None)
        try:
            await self._mailbox.put(letter, priority)
        finally:
            if turn is not None:
                turn.end_wait()

    @trio.lowlevel.enable_ki_protection
    def tell_nowait(self, message: Message[Any], *, priority: bool = False) -> None:
        """As `tell`, but raise `MailboxFull` instead of waiting."""
        if not self._mailbox.put_nowait(self._letter(message, None), priority):
            raise MailboxFull(
                f"the mailbox of {self._name} is full; wait for room with `tell`, or give it more capacity"
            )

    @trio.lowlevel.enable_ki_protection
    async def ask(self, message: Message[R], *, priority: bool = False) -> R:
        """Send a message and wait for the reply; the caller's cancel scope is the only timeout.

        Ends exactly once: with the reply; with an exception that the actor declares (`Actor.rejections`) or gave to a
        `Deferred`; or with `ActorRestarting`, `ActorDied` or `ActorStopped`. When cancelled, a message that still is in
        the mailbox will not be handled; one that is being handled goes on, and its reply is dropped.

        Raises `AskCycle`, and sends nothing, in a hook of an actor for which this one waits, or of this one itself.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        reply: Reply[R] = Reply()
        turn = turn_of_hook()
        if turn is not None:
            turn.begin_wait(self._turn, reply)
        try:
            letter = self._letter(message, reply)
            if not self._mailbox.put_nowait(letter, priority):
                await self._mailbox.put(letter, priority)
            return await reply.wait()
        finally:
            if turn is not None:
                turn.end_wait()

    async def wait_ended(self) -> BaseException | None:
        """Wait until the actor has ended for good, its clean-up included, and return what its last life ended by.

        None means that it was stopped, or ended without an error. Restarts are not its end.
        """
        return await self._ending.wait()

    def _letter(self, message: Message[Any], reply: Reply[Any] | None) -> Letter:
        instrument = self._instrument
        sent = None if instrument is None else instrument.on_send(self, message, asks=reply is not None)
        return Letter(message, reply, sent)
