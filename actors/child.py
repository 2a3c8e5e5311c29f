"""A child over all its lives, as its supervisor knows it."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import attrs
import trio

from actors.incarnation import Incarnation
from actors.mailbox import Mailbox
from actors.observation import ChildInfo, ChildState, Tree
from actors.ref import ActorRef
from actors.spec import ChildSpec, MailboxPolicy

if TYPE_CHECKING:
    from actors.recovery import Recovery
    from actors.supervision import Supervision
    from actors.supervisor import Supervisor


@attrs.define(eq=False, weakref_slot=False)
class Child:
    """The record of one child, and the owner of its incarnations."""

    spec: ChildSpec
    position: int
    """Grows in the order of start."""
    nested: Supervisor | None
    """What this child is, when it is no mere actor."""
    supervision: Supervision
    mailbox: Mailbox = attrs.field(init=False)
    ref: ActorRef = attrs.field(init=False)
    state: ChildState = attrs.field(init=False, default=ChildState.STARTING)
    life: int = attrs.field(init=False, default=0)
    incarnation: Incarnation | None = attrs.field(init=False, default=None)
    recovery: Recovery | None = attrs.field(init=False, default=None)
    """Who ends its life and begins another one; then an end is no news to the supervisor."""
    error: BaseException | None = attrs.field(init=False, default=None)
    """What the last life ended by; set when the state becomes STOPPED."""
    resume_at: float = attrs.field(init=False, default=-math.inf)
    """No life begins before this time."""
    _restarts: int = attrs.field(init=False, default=0)
    _quick_crashes: int = attrs.field(init=False, default=0)
    _ready_at: float = attrs.field(init=False, default=math.inf)
    _changed: trio.Event | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.mailbox = Mailbox(self.spec.mailbox)
        self.ref = ActorRef(self.spec.name, self.mailbox, self.supervision.instrument)

    async def launch(self, nursery: trio.Nursery) -> None:
        """Begin a life in the nursery, and return when it is ready; raises as the factory and `Incarnation.run` do."""
        self.life += 1
        self._ready_at = math.inf
        self.incarnation = Incarnation(
            self.spec.factory(),
            self.ref,
            self.mailbox,
            shutdown=self.spec.shutdown,
            keeps_mail=self.spec.on_restart is MailboxPolicy.KEEP,
            owner=self,
            nursery=nursery,
        )
        await nursery.start(self.incarnation.run)

    def ready(self) -> None:
        """See `Owner.ready`."""
        self._ready_at = trio.current_time()
        self.supervision.ready(self)

    def restarts(self, error: BaseException | None) -> bool:
        """See `Owner.restarts`."""
        return self.supervision.restarts(self, error)

    def ended(self, error: BaseException | None) -> None:
        """See `Owner.ended`."""
        self.supervision.ended(self, error)

    @property
    def given_up(self) -> bool:
        """Whether it has had all its restarts."""
        return self.spec.max_restarts is not None and self._restarts >= self.spec.max_restarts

    def count_restart(self, now: float, random: Random) -> float:
        """Note that it is to be restarted since it ended, and return the delay in seconds."""
        self._restarts += 1
        backoff = self.spec.backoff
        if backoff is None:
            return 0.0
        if now - self._ready_at > backoff.maximum:
            self._quick_crashes = 0
        delay = backoff.delay(self._quick_crashes, random)
        self._quick_crashes += 1
        self.resume_at = now + delay
        return delay

    def announce(self) -> None:
        """Wake who waits for `changed`."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def changed(self) -> None:
        """Wait until it is ready, or a life of it has ended."""
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def info(self) -> ChildInfo | Tree:
        """What a snapshot shows of it."""
        if self.nested is not None:
            return attrs.evolve(self.nested.tree(), state=self.state, life=self.life)
        return ChildInfo(self.spec.name, self.state, self.life, len(self.mailbox))
