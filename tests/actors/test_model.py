"""A fuzzer: random programs against the promises of the kernel, under every strategy.

Each program runs in virtual time, so an ask that hangs fails its example at once instead of the test run; and each
runs under a schedule of its own, since `st.random_module` seeds Trio's choice among tasks that can run.
"""

from __future__ import annotations

import contextlib
import enum
import functools
from collections import Counter as Tally
from collections.abc import Iterator
from random import Random
from typing import Any, ClassVar

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import (
    Actor,
    ActorDied,
    ActorRef,
    ActorRestarting,
    ActorStopped,
    Backoff,
    ChildSpec,
    Deferred,
    DuplicateChild,
    Event,
    EventKind,
    MailboxPolicy,
    Message,
    Restart,
    RestartsExhausted,
    StartAborted,
    StopFailed,
    Strategy,
    Supervisor,
    SupervisorStopped,
    UnknownChild,
    open_supervisor,
)
from tests.actors.toys import Boom, Refused

FOREVER = 1e9
NAMES = "abc"


class Action(enum.Enum):
    """What the handler of a job does."""

    REPLY = enum.auto()
    REFUSE = enum.auto()
    CRASH = enum.auto()
    SLEEP = enum.auto()
    DEFER = enum.auto()
    FORGET = enum.auto()
    CRASH_LATER = enum.auto()
    FINISH = enum.auto()


@attrs.frozen
class Job(Message[int]):
    """Answered by its number."""

    number: int
    action: Action


@attrs.define
class History:
    """What happened in one example."""

    begun: Tally[int] = attrs.field(factory=Tally)
    ended: dict[int, object] = attrs.field(factory=dict)
    sent: dict[int, Action] = attrs.field(factory=dict)
    alive: dict[str, int] = attrs.field(factory=dict)
    lives: Tally[str] = attrs.field(factory=Tally)
    stops: list[str] = attrs.field(factory=list)
    events: list[Event] = attrs.field(factory=list)
    error: BaseException | None = None
    """What came out of the supervisor's block."""
    broken: list[str] = attrs.field(factory=list)

    def require(self, promise: bool, otherwise: str) -> None:
        """For use in actors, where a failed assertion would be a crash like any other."""
        if not promise:
            self.broken.append(otherwise)


class Worker(Actor):
    rejections: ClassVar[tuple[type[Exception], ...]] = (Refused,)

    def __init__(self, name: str, history: History, flaky: bool) -> None:
        self.name = name
        self.history = history
        self.flaky = flaky
        self.life = 0

    async def started(self) -> None:
        self.history.require(self.name not in self.history.alive, "two lives at once")
        await trio.lowlevel.checkpoint()
        if self.flaky and self.history.lives[self.name] % 3 == 1:
            self.history.lives[self.name] += 1
            raise Boom("at start")
        self.history.lives[self.name] += 1
        self.life = self.history.alive[self.name] = self.history.lives[self.name]

    async def stopped(self) -> None:
        await trio.lowlevel.checkpoint()
        self.history.require(self.history.alive.pop(self.name, None) == self.life, "stopped twice, or another life")
        self.history.stops.append(self.name)

    async def handle(self, message: Message[Any]) -> Any:
        match message:
            case Job(number, action):
                self.history.require(self.history.alive.get(self.name) == self.life, "handled by a life that is over")
                self.history.begun[number] += 1
                match action:
                    case Action.REPLY:
                        pass
                    case Action.REFUSE:
                        raise Refused
                    case Action.CRASH:
                        raise Boom
                    case Action.SLEEP:
                        await trio.sleep(1)
                    case Action.DEFER:
                        self.start_soon(self.answer, self.defer(message), number)
                    case Action.FORGET:
                        self.defer(message)
                    case Action.CRASH_LATER:
                        self.start_soon(self.crash)
                    case Action.FINISH:
                        self.stop()
                return number

    async def answer(self, promise: Deferred[int], number: int) -> None:
        await trio.sleep(1)
        promise.reply(number)

    async def crash(self) -> None:
        await trio.sleep(1)
        raise Boom


async def client(ref: ActorRef, job: Job, patience: float, priority: bool, history: History) -> None:
    """Asks once, and notes how that ended."""
    result: object = "cancelled"
    with trio.move_on_after(patience):
        try:
            result = await ref.ask(job, priority=priority)
        except (Refused, ActorRestarting, ActorDied, ActorStopped) as error:
            result = error
    assert job.number not in history.ended
    history.ended[job.number] = result


async def start(supervisor: Supervisor, spec: ChildSpec, refs: dict[str, ActorRef], patience: float) -> None:
    with trio.move_on_after(patience), contextlib.suppress(StartAborted, SupervisorStopped, DuplicateChild, Boom):
        refs[spec.name] = await supervisor.start_child(spec)


async def tell(ref: ActorRef, job: Job, patience: float) -> None:
    with trio.move_on_after(patience), contextlib.suppress(ActorStopped):
        await ref.tell(job)


async def stop(supervisor: Supervisor, ref: ActorRef) -> None:
    with contextlib.suppress(StopFailed):
        await supervisor.stop_child(ref)


async def restart(supervisor: Supervisor, ref: ActorRef, patience: float) -> None:
    with trio.move_on_after(patience), contextlib.suppress(ActorStopped, SupervisorStopped, UnknownChild):
        await supervisor.restart_child(ref)


@attrs.frozen
class Step:
    """One command of a program; `patience` is when its caller is cancelled."""

    command: str
    name: str
    action: Action
    patience: float
    priority: bool
    settle: bool
    """Go on only when every task waits."""


@attrs.frozen
class Program:
    steps: list[Step]
    restarts: dict[str, Restart]
    flaky: bool
    strategy: Strategy
    intensity: int | None
    on_restart: MailboxPolicy
    backoff: Backoff | None
    max_restarts: int | None
    leave_by: str


STEPS = st.builds(
    Step,
    command=st.sampled_from(["ask", "tell", "stop", "start", "restart", "wait", "ask", "ask", "ask"]),
    name=st.sampled_from(NAMES),
    action=st.sampled_from(Action),
    patience=st.sampled_from([FOREVER, 1.5, 0.5, 0.0]),
    priority=st.booleans(),
    settle=st.booleans().map(lambda hurried: not hurried),
)
PROGRAMS = st.builds(
    Program,
    steps=st.lists(STEPS, min_size=8, max_size=40),
    restarts=st.fixed_dictionaries({name: st.sampled_from(Restart) for name in NAMES}),
    flaky=st.booleans(),
    strategy=st.sampled_from(Strategy),
    intensity=st.sampled_from([None, 1000, 2, 0]),
    on_restart=st.sampled_from(MailboxPolicy),
    backoff=st.sampled_from([None, Backoff(0.25, 1, jitter=0.5)]),
    max_restarts=st.sampled_from([None, None, 1]),
    leave_by=st.sampled_from(["end", "cancellation", "exception"]),
)


async def run(program: Program, history: History) -> None:
    """Starts three children, then runs every command in a task of its own; these tasks outlive the supervisor."""
    refs: dict[str, ActorRef] = {}

    def spec(name: str) -> ChildSpec:
        worker = functools.partial(Worker, name, history, program.flaky)
        return ChildSpec(
            name,
            worker,
            restart=program.restarts[name],
            shutdown=2,
            mailbox=2,
            on_restart=program.on_restart,
            backoff=program.backoff,
            max_restarts=program.max_restarts,
        )

    async with trio.open_nursery() as clients:
        try:
            with trio.CancelScope() as scope:
                async with open_supervisor(
                    strategy=program.strategy,
                    intensity=program.intensity,
                    period=FOREVER,
                    random=Random(0),
                    on_event=history.events.append,
                ) as supervisor:
                    for name in NAMES:
                        await start(supervisor, spec(name), refs, FOREVER)
                    for number, step in enumerate(program.steps):
                        job = Job(number, step.action)
                        match step.command:
                            case "start":
                                clients.start_soon(start, supervisor, spec(step.name), refs, step.patience)
                            case "wait":
                                await trio.sleep(min(step.patience, 2))
                            case "stop" if step.name in refs:
                                clients.start_soon(stop, supervisor, refs[step.name])
                            case "restart" if step.name in refs:
                                clients.start_soon(restart, supervisor, refs[step.name], step.patience)
                            case "tell" if step.name in refs:
                                clients.start_soon(tell, refs[step.name], job, step.patience)
                            case "ask" if step.name in refs:
                                history.sent[number] = step.action
                                clients.start_soon(client, refs[step.name], job, step.patience, step.priority, history)
                        if step.settle:
                            await wait_all_tasks_blocked()
                    match program.leave_by:
                        case "cancellation":
                            scope.cancel()
                            await trio.lowlevel.checkpoint()
                        case "exception":
                            raise Refused("leaving")
        except (Boom, Refused, ExceptionGroup) as error:
            history.error = error


def check(history: History, program: Program) -> None:
    """The promises."""
    assert history.broken == []
    assert history.alive == {}, "a life went on behind the block"
    assert all(times == 1 for times in history.begun.values()), "a message was handled twice"
    assert history.ended.keys() == history.sent.keys(), "an ask was not answered"
    for number, result in history.ended.items():
        begun = history.begun[number]
        match result:
            case int():
                assert (result, begun) == (number, 1)
                assert history.sent[number] not in (Action.REFUSE, Action.CRASH, Action.FORGET)
            case Refused():
                assert begun == 1
                assert history.sent[number] is Action.REFUSE
            case ActorDied():
                assert begun == 1
                assert isinstance(result.__cause__, Boom | Refused)
            case ActorRestarting():
                assert begun == 0
                assert program.on_restart is MailboxPolicy.DROP
    started = Tally(event.name for event in history.events if event.kind is EventKind.STARTED)
    assert started == Tally(history.stops), "a life was not cleaned up"
    for name in NAMES:
        check_lives([event for event in history.events if event.name == name])
    escalated = [event.name for event in history.events if event.kind is EventKind.ESCALATED]
    errors = list(leaves(history.error))
    escalations = [error for error in errors if isinstance(error, RestartsExhausted)]
    assert len(escalations) == len(escalated) <= 1
    assert not escalations or program.intensity is not None
    assert all(len(escalation.exceptions) == (program.intensity or 0) + 1 for escalation in escalations)
    assert all(isinstance(error, Boom | Refused | RestartsExhausted) for error in errors), errors


def check_lives(events: list[Event]) -> None:
    """The events of one name: each life follows a decision, and none follows the end."""
    life, awaited = 0, True
    followed: set[int] = set()
    for event in events:
        match event.kind:
            case EventKind.STARTED:
                assert awaited, "a life without a decision"
                assert event.life > life
                life, awaited = event.life, False
            case EventKind.RESTARTING:
                assert event.life not in followed, "one end was decided on twice"
                followed.add(event.life)
                awaited = True
            case EventKind.STOPPED:
                life, awaited = 0, True
                followed.clear()
    assert not events or events[-1].kind in (EventKind.STOPPED, EventKind.ESCALATED)


def leaves(error: BaseException | None) -> Iterator[BaseException]:
    """The errors of which a group of groups is made; an escalation counts as one."""
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, RestartsExhausted):
        for one in error.exceptions:
            yield from leaves(one)
    elif error is not None:
        yield error


@given(program=PROGRAMS, random=st.random_module())
@settings(max_examples=400, deadline=None)
def test_the_promises_hold_in_every_program(program: Program, random: object) -> None:
    history = History()

    async def main() -> None:
        tasks = trio.lowlevel.current_statistics().tasks_living
        with trio.fail_after(FOREVER):
            await run(program, history)
        assert trio.lowlevel.current_statistics().tasks_living == tasks, "a task was left"

    trio.run(main, clock=MockClock(autojump_threshold=0))
    check(history, program)
