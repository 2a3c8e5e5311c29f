"""The actor that keeps boxes ready."""

from __future__ import annotations

import logging
from collections import deque
from math import inf
from typing import Any, Final, final

import attrs
import trio

from actors import Actor, ActorError, ActorRef, Deferred, Message
from boxlite.boxes.services import BoxServices
from boxlite.errors import BoxliteError, BoxUnresponsive, OverBudget, PoolUnavailable
from boxlite.metrics.counters import PoolMeter
from boxlite.pools.allowance import Allowance
from boxlite.pools.breaker import Breaker, BreakerState
from boxlite.pools.demand import Stock
from boxlite.pools.member import Member
from boxlite.pools.messages import TakeBox, WaitReady
from boxlite.pools.pressure import MemoryWatch
from boxlite.pools.spec import PoolSpec
from boxlite.runtime.messages import BoxRecord, CreateBox

REFILL_DELAY: Final = 0.1
"""Seconds between a hand-out and the start of the box that takes its place: the first command of whoever got one is to
have the processors for itself. Nobody who waits for a box waits for this."""

_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class _Place:
    """Where one box is started, kept, and taken or given up. Its task owns the box until it is taken."""

    waits: bool
    """Whether its creation waits for a share of the budget."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    member: Member | None = None
    """None until the box is created."""
    taken: bool = False
    gone: trio.Event = attrs.field(factory=trio.Event)
    """The box was taken or removed."""


@attrs.frozen(eq=False)
class _Taker:
    asker: Deferred[BoxRecord]
    since: float


@final
class PoolActor(Actor):
    """Decides, in synchronous steps (`_balance`), who gets a box and how many are started or given up.

    Each box that is not taken has a background task, so that nothing of it is left when this life ends.
    """

    rejections = (BoxliteError,)

    def __init__(
        self, spec: PoolSpec, runtime: ActorRef, services: BoxServices, memory: MemoryWatch, meter: PoolMeter
    ) -> None:
        policy = spec.policy
        self._spec = spec
        self._runtime = runtime
        self._services = services
        self._memory = memory
        self._meter = meter
        self._breaker = Breaker(policy.max_failures, policy.failure_period, policy.backoff, services.random)
        self._allowance = Allowance(spec.size)
        self._starting: list[_Place] = []
        self._ready: deque[_Place] = deque()
        self._takers: deque[_Taker] = deque()
        self._watchers: list[tuple[int, Deferred[None]]] = []
        self._share_due: trio.Event | None = None
        """The budget had no share for a box that nobody waits for, and may have one when this is set."""
        self._refill_at = -inf
        self._sooner = trio.Event()

    async def started(self) -> None:
        """Begins to fill the pool."""
        self.start_soon(self._follow_time)
        self.start_soon(self._follow_budget)
        self.start_soon(self._check_ready)
        self.start_soon(self._memory, self._memory_is_short, self._spec.policy.check_interval)
        self._balance()

    async def handle(self, message: Message[Any]) -> Any:
        """See `boxlite.pools.messages`."""
        match message:
            case TakeBox():
                taker = _Taker(self.defer(message), trio.current_time())
                self._takers.append(taker)
                taker.asker.on_abandon(self._balance)
            case WaitReady(count=count):
                self._watchers.append((count, self.defer(message)))
            case _:
                return await super().handle(message)
        self._balance()
        return None

    # Decisions

    def _balance(self) -> None:
        """Hands out what is ready, and begins or gives up starts; to be called after whatever may change that."""
        now = trio.current_time()
        self._serve(now)
        if self._breaker.state(now) is BreakerState.OPEN:
            self._refuse(now)
        missing = self._stock().missing(self._target(now), self._at_once(now))
        for _ in range(missing):
            self._begin()
        for _ in range(-missing):
            self._give_up(self._newest())
        self._keep_refills_out_of_the_queue()
        self._publish(now)

    def _serve(self, now: float) -> None:
        self._takers = deque(taker for taker in self._takers if not taker.asker.abandoned)
        while self._takers and self._ready:
            place = self._ready[0]
            assert place.member is not None, "a box that is ready was created"
            if place.member.usable:
                taker = self._takers.popleft()
                place.taken = True
                taker.asker.reply(place.member.record)
                self._meter.handed_out += 1
                self._meter.busy += 1
                self._meter.wait_seconds += now - taker.since
                # Not later by the next hand-out: many in a row would empty the pool.
                if self._refill_at <= now:
                    self._refill_at = now + REFILL_DELAY
                    self._sooner.set()
            self._give_up(place)
        waiting, self._watchers = self._watchers, []
        for count, watcher in waiting:
            if count <= len(self._ready):
                watcher.reply(None)
            elif not watcher.abandoned:
                self._watchers.append((count, watcher))

    def _refuse(self, now: float) -> None:
        takers, self._takers = self._takers, deque()
        watchers, self._watchers = self._watchers, []
        for taker in takers:
            taker.asker.fail(self._unavailable(now))
        for _, watcher in watchers:
            watcher.fail(self._unavailable(now))

    def _unavailable(self, now: float) -> PoolUnavailable:
        assert self._breaker.retry_at is not None, "the breaker is open"
        error = PoolUnavailable(
            f"pool {self._spec.name} has no box, and starts none before {self._breaker.retry_at - now:.1f} s have "
            f"passed, since too many starts failed: {self._breaker.error}"
        )
        error.__cause__ = self._breaker.error
        return error

    def _stock(self) -> Stock:
        return Stock(len(self._ready), len(self._starting), len(self._takers))

    def _target(self, now: float) -> int:
        """How many boxes to keep beyond those that somebody waits for."""
        limit = self._allowance.limit(now)
        crowded = self._share_due is not None and not self._share_due.is_set()
        return min(limit, self._stock().spare) if crowded or now < self._refill_at else limit

    def _at_once(self, now: float) -> int:
        match self._breaker.state(now):
            case BreakerState.CLOSED:
                return self._spec.policy.max_starting
            case BreakerState.OPEN:
                return 0
            case BreakerState.HALF_OPEN:
                return 1

    def _keep_refills_out_of_the_queue(self) -> None:
        """Whoever waits for the budget has somebody who waits for the box."""
        queued = [place for place in self._starting if place.waits and place.member is None]
        for place in queued[len(self._takers) :]:
            self._give_up(place)

    def _newest(self) -> _Place:
        return self._starting[-1] if self._starting else self._ready[-1]

    def _begin(self) -> None:
        # A refill that is under way is for whoever waits: another one that queued for the budget would be one too many,
        # given up for itself, and begun again, without end.
        waits = len(self._starting) < len(self._takers)
        place = _Place(waits)
        self._starting.append(place)
        self.start_soon(self._live, place)

    def _give_up(self, place: _Place) -> None:
        """The place holds no box of the pool any more; its task does the rest."""
        for places in (self._starting, self._ready):
            if place in places:
                places.remove(place)
        place.scope.cancel()

    def _failed(self, error: BaseException) -> None:
        now = trio.current_time()
        was = self._breaker.state(now)
        self._breaker.failed(now, error)
        self._meter.failures += 1
        if was is not BreakerState.OPEN and self._breaker.state(now) is BreakerState.OPEN:
            _log.warning("pool %s starts no boxes for now: %s", self._spec.name, error)
        else:
            _log.info("a box of pool %s failed: %s", self._spec.name, error)
        self._sooner.set()

    def _publish(self, now: float) -> None:
        meter, stock = self._meter, self._stock()
        meter.ready, meter.starting, meter.waiting = stock.ready, stock.starting, stock.waiting
        meter.breaker = self._breaker.state(now)

    # One box

    async def _live(self, place: _Place) -> None:
        """From its creation until it was taken, or removed."""
        failure: Exception | None = None
        try:
            with place.scope:
                failure = await self._hold(place)
            self._give_up(place)
            # One that dies in the step in which it was taken is its taker's.
            if failure is not None and not place.taken:
                self._failed(failure)
            self._balance()
        finally:
            if place.member is not None and not place.taken:
                await place.member.remove()
            place.gone.set()

    async def _hold(self, place: _Place) -> Exception | None:
        """Makes a box ready and keeps it; returns what it failed by. Cancelled when it is taken or given up."""
        share_due = self._services.admission.changed
        try:
            place.member = member = await self._create(place)
            await member.start(self._spec.policy.start_timeout)
            if self._spec.warm_up:
                await member.warm_up(self._spec.warm_up, self._spec.policy.check_timeout)
            # It may have been given up in this very moment.
            await trio.lowlevel.checkpoint_if_cancelled()
            self._starting.remove(place)
            self._ready.append(place)
            self._breaker.succeeded(trio.current_time())
            self._balance()
            return await member.wait_died()
        except OverBudget as error:
            if place.waits:
                return error
            self._share_due = share_due
            return None
        except (BoxliteError, ActorError) as error:
            return error

    async def _create(self, place: _Place) -> Member:
        name = f"{self._spec.name[:50]}-{self._services.random.getrandbits(32):08x}"
        options = attrs.evolve(self._spec.options, name=name)
        return Member(await self._runtime.ask(CreateBox(options, place.waits, auto_remove=True)), self._runtime)

    # What happens around it

    async def _follow_time(self) -> None:
        """Refills, tries again when the breaker's delay is over, and keeps more boxes as the pressure ends."""
        while True:
            now = trio.current_time()
            retry_at = self._breaker.retry_at if self._breaker.state(now) is BreakerState.OPEN else None
            refill_at = self._refill_at if self._refill_at > now else None
            due = [moment for moment in (retry_at, refill_at, self._allowance.grows_at(now)) if moment is not None]
            with trio.move_on_at(min(due, default=inf)):
                await self._sooner.wait()
            self._sooner = trio.Event()
            self._balance()

    async def _follow_budget(self) -> None:
        """Gives up boxes that nobody waits for, one after the other, while others wait for a share of the budget."""
        admission = self._services.admission
        while True:
            changed = admission.changed
            if admission.waiting and self._stock().spare:
                place = self._newest()
                self._share_due = changed
                self._give_up(place)
                self._balance()
                await place.gone.wait()
            else:
                self._balance()
                await changed.wait()

    async def _check_ready(self) -> None:
        policy = self._spec.policy
        while True:
            await trio.sleep(policy.check_interval)
            for place in tuple(self._ready):
                assert place.member is not None, "a box that is ready was created"
                if place in self._ready and not await place.member.answers(policy.check_timeout):
                    self._unanswered(place)

    def _unanswered(self, place: _Place) -> None:
        # While it was asked, somebody may have taken it.
        if place in self._ready and place.member is not None:
            self._give_up(place)
            name, seconds = place.member.record.options.name, self._spec.policy.check_timeout
            self._failed(BoxUnresponsive(name, f"its agent did not answer within {seconds:g} s"))
            self._balance()

    def _memory_is_short(self) -> None:
        self._allowance.press(trio.current_time(), self._stock().spare)
        _log.info("the host is short of memory: pool %s keeps fewer boxes", self._spec.name)
        self._sooner.set()
        self._balance()
