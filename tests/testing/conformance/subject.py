"""What the behaviours of this folder run against: an engine, and a machine of it that is ready for commands."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeAlias

import attrs
import trio

from boxlite.errors import ExecutionTaken
from boxlite.portal.interface import CreditGate, GuestSession
from boxlite.vmm.engine import Engine, Snapshot, Vm
from boxlite.vmm.facts import find_virtiofsd
from proto.boxlite.v1 import (
    AttachStart,
    Credit,
    Disk,
    ExecEvent,
    ExecStart,
    Exited,
    OutputStream,
    StartFailed,
    StdinMode,
    Volume,
)
from vmm_ffi.spec import InstanceSpec, ShareSpec

UNLIMITED = 1 << 40
NOW_NS = 1_750_000_000 * 10**9
PATIENCE = 600.0 if os.environ.get("BOXLITE_LAB") else 60.0
"""In the lab everything takes some thirty times longer."""

TEMPLATE_ID = "0" * 32

_ids = itertools.count(1)


class Subject(Protocol):
    """An engine, and what machines of it are made of."""

    @property
    def has_power_button(self) -> bool:
        """Whether its machines can be ended past their guests with their disks flushed."""

    def make_spec(self) -> InstanceSpec:
        """A machine with an image and an empty scratch disk of its own."""

    def make_directory(self) -> Path:
        """A box's directory."""

    def make_paths(self) -> Snapshot:
        """Where a machine can be saved."""

    def damage(self, path: Path) -> None:
        """Shortens a file of a snapshot that no machine uses."""

    def copy_spec(self, spec: InstanceSpec) -> InstanceSpec:
        """The same machine, with a scratch disk of its own that has the same content."""

    def exists(self, path: Path) -> bool:
        """Whether there is a file of a snapshot."""

    def open_engine(self) -> AbstractAsyncContextManager[Engine]:
        """An engine as each runtime has one; opened anew it stands for that of the next runtime."""


@attrs.define
class Transcript:
    """Everything that came of one execution, and the laws that hold for each: output in order, the end last."""

    pid: int | None = None
    stdout: bytearray = attrs.field(factory=bytearray)
    stderr: bytearray = attrs.field(factory=bytearray)
    first_offset: int | None = None
    """Of the standard output."""
    exited: Exited | None = None
    failed: StartFailed | None = None
    changed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def over(self) -> bool:
        """Whether the last event has come."""
        return self.exited is not None or self.failed is not None

    def take(self, event: ExecEvent) -> None:
        assert not self.over, "an event came after the end"
        if event.started is not None:
            assert self.pid is None, "it started twice"
            self.pid = event.started.pid
        elif event.output is not None:
            assert self.pid is not None, "output came before the start"
            into = self.stdout if event.output.stream is OutputStream.STDOUT else self.stderr
            if event.output.stream is OutputStream.STDOUT:
                if self.first_offset is None:
                    self.first_offset = event.output.offset
                assert event.output.offset == self.first_offset + len(into), "output has a gap, or comes twice"
            into += event.output.data
        else:
            self.exited, self.failed = event.exited, event.failed
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    async def until(self, condition: Callable[[Transcript], object]) -> None:
        """Waits until it holds."""
        with trio.fail_after(PATIENCE):
            while not condition(self):
                await self.changed.wait()


@attrs.define
class Guest:
    """A machine whose container takes commands."""

    engine: Engine
    vm: Vm
    session: GuestSession

    async def run(self, *argv: str, **fields: object) -> Transcript:
        """Executes a command to its end, reading all it says."""
        transcript = Transcript()
        with trio.fail_after(PATIENCE):
            await self.session.execute(command(*argv, **fields), transcript.take, CreditGate())
        return transcript

    @asynccontextmanager
    async def running(self, start: ExecStart, gate: CreditGate | None = None) -> AsyncIterator[Transcript]:
        """A command for the block, which begins when it has started; afterwards nobody follows it."""
        transcript = Transcript()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, start, transcript, gate or CreditGate())
            await transcript.until(lambda transcript: transcript.pid is not None)
            yield transcript
            nursery.cancel_scope.cancel()

    async def attach(self, execution_id: str, offset: int = 0) -> Transcript:
        """Follows an execution from this offset of its standard output to its end."""
        transcript = Transcript()
        with trio.fail_after(PATIENCE):
            await self.session.attach(_attach(execution_id, offset), transcript.take, CreditGate())
        return transcript

    @asynccontextmanager
    async def attached(self, execution_id: str) -> AsyncIterator[Transcript]:
        """Follows an execution from its beginning, for the block."""
        transcript = Transcript()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.session.attach, _attach(execution_id, 0), transcript.take, CreditGate())
            yield transcript
            nursery.cancel_scope.cancel()

    async def until_ended(self, execution_id: str) -> None:
        """Returns when nothing of it runs any more; nobody follows it meanwhile."""
        with trio.fail_after(PATIENCE):
            while True:
                infos = await self.session.executions()
                if any(info.execution_id == execution_id and info.exited is not None for info in infos):
                    return
                # Execution.List tells of a moment; no call waits for an end without following.
                await trio.sleep(0.05)

    async def _follow(self, start: ExecStart, transcript: Transcript, gate: CreditGate) -> None:
        try:
            await self.session.execute(start, transcript.take, gate)
        except ExecutionTaken:
            transcript.changed.set()


Behaviour: TypeAlias = Callable[[Guest], Awaitable[None]]
"""Leaves the machine as it found it, but for executions."""

TemplateBehaviour: TypeAlias = "Callable[[Subject, Engine, Template], Awaitable[None]]"
"""Restores machines, and leaves the template as it found it."""

EngineBehaviour: TypeAlias = Callable[[Subject], Awaitable[None]]
"""Boots machines of its own."""


def command(*argv: str, **fields: object) -> ExecStart:
    """A command whose output nobody limits, unless `fields` say so."""
    start = ExecStart(
        execution_id=f"run-{next(_ids)}",
        argv=[word.encode() for word in argv],
        cwd=b"/",
        stdin=StdinMode.NULL,
        credit=Credit(stdout_limit=UNLIMITED, stderr_limit=UNLIMITED),
    )
    for name, value in fields.items():
        setattr(start, name, value)
    return start


def _attach(execution_id: str, offset: int) -> AttachStart:
    credit = Credit(stdout_limit=UNLIMITED, stderr_limit=UNLIMITED)
    return AttachStart(execution_id=execution_id, stdout_offset=offset, credit=credit)


@asynccontextmanager
async def launched(
    subject: Subject, *, detached: bool = False, directory: Path | None = None, shares: Sequence[ShareSpec] = ()
) -> AsyncIterator[Guest]:
    """A machine in an engine of its own, ready for commands; each of its shares is a volume in a place of that name."""
    spec = subject.make_spec()
    if shares:
        virtiofsd = find_virtiofsd()
        assert virtiofsd is not None, "the tests need virtiofsd"
        spec = attrs.evolve(spec, shares=tuple(shares), share_server=str(virtiofsd))
    async with (
        subject.open_engine() as engine,
        engine.launch(spec, directory=directory or subject.make_directory(), detached=detached) as vm,
    ):
        yield Guest(engine, vm, await _set_up(vm, spec, "box"))


async def _set_up(vm: Vm, spec: InstanceSpec, hostname: str) -> GuestSession:
    with trio.fail_after(4 * PATIENCE):
        session = await vm.connect()
        disks = [Disk(serial=disk.serial, read_only=disk.read_only) for disk in spec.disks[1:]]
        await session.init_guest(unix_time_ns=NOW_NS, entropy=bytes(64), disks=disks)
        await session.init_container(
            image_disk="image",
            scratch_disk="scratch",
            hostname=hostname,
            machine_id=TEMPLATE_ID,
            volumes=[
                Volume(name=share.name, target=f"/{share.name}".encode(), read_only=share.read_only)
                for share in spec.shares
            ],
        )
        return session


@attrs.frozen
class Template:
    """A machine that was saved."""

    spec: InstanceSpec
    snapshot: Snapshot


async def make_template(subject: Subject, engine: Engine) -> Template:
    """Boots a machine, freezes and saves it."""
    spec, paths = subject.make_spec(), subject.make_paths()
    async with engine.launch(spec, directory=subject.make_directory(), detached=False, memory=paths.memory) as vm:
        session = await _set_up(vm, spec, "template")
        with trio.fail_after(PATIENCE):
            await session.freeze()
            session.close()
            await vm.save(paths.state)
    return Template(spec, paths)


@asynccontextmanager
async def clone(
    subject: Subject,
    engine: Engine,
    template: Template,
    *,
    detached: bool = False,
    directory: Path | None = None,
) -> AsyncIterator[Guest]:
    """A machine that was restored and not yet made one of its own."""
    async with engine.launch(
        subject.copy_spec(template.spec),
        directory=directory or subject.make_directory(),
        detached=detached,
        restore=template.snapshot,
    ) as vm:
        with trio.fail_after(PATIENCE):
            session = await vm.connect()
        yield Guest(engine, vm, session)
