"""The agent of a simulated guest: what it keeps, whichever host is connected."""

from __future__ import annotations

import os
import re
import signal
from collections import deque

import attrs
import trio

from boxlite.testing.clock import GuestClock
from boxlite.testing.execution import Execution
from boxlite.testing.identity import Identity, IdentityState
from boxlite.testing.programs import Process, Programs
from proto.boxlite.v1 import Disk, ExecStart, ExecutionInfo, StartFailed, StartFailure

KEPT = 64
"""How many ended executions are kept, as in the guest."""

KEPT_BYTES = 8 << 20
"""How much output of ended executions is kept, as in the guest."""

MIN_ENTROPY = 32
"""Bytes that Guest.Restore needs, as in the guest."""

MAX_ARGUMENTS = 2 << 20
"""Bytes of arguments and environment that the guest's kernel takes."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_USERS = re.compile(r"(root|nobody|[0-9]+)?(:(root|nogroup|[0-9]+))?")
_DIRECTORIES = frozenset({b"/", b"/bin", b"/etc", b"/root", b"/tmp", b"/usr", b"/var"})


class Refusal(Exception):
    """The agent says no."""


class UnknownExecution(Refusal):
    """No execution has this id, or not any more."""


@attrs.frozen
class AgentState:
    """What a saved machine's memory holds of its agent."""

    disks: frozenset[str] | None
    container: bool
    frozen: bool
    identity: IdentityState


class Agent:
    """State of one guest, from its boot or restore to its end. Its commands run in the nursery `tasks`."""

    def __init__(self, clock: GuestClock, programs: Programs, tasks: trio.Nursery, identity: Identity) -> None:
        self._clock = clock
        self._programs = programs
        self._tasks = tasks
        self._identity = identity
        self._disks: frozenset[str] | None = None
        self._container = False
        self._frozen = False
        self._was_frozen = False
        self._executions: dict[str, Execution] = {}
        self._over: deque[str] = deque()
        self._pids = 1

    def save(self) -> AgentState:
        """What goes into a saved machine."""
        return AgentState(self._disks, self._container, self._frozen, self._identity.save())

    def load(self, state: AgentState) -> None:
        """It goes on where a saved one was."""
        self._disks, self._container = state.disks, state.container
        self._frozen = self._was_frozen = state.frozen
        self._identity.load(state.identity)

    @property
    def frozen(self) -> bool:
        """Whether it is between Guest.Freeze and Guest.Restore."""
        return self._frozen

    def check_awake(self) -> None:
        """Raises `Refusal` between Guest.Freeze and Guest.Restore."""
        if self._frozen:
            raise Refusal("the machine is frozen: Guest.Restore comes first")

    def init_guest(self, unix_time_ns: int, entropy: bytes, disks: list[Disk]) -> None:
        """Guest.Init; raises `Refusal`."""
        if self._disks is not None:
            raise Refusal("Guest.Init is called once")
        self._disks = frozenset(disk.serial for disk in disks)
        self._identity.reseed(entropy)
        self._clock.set_date(unix_time_ns / 1e9)

    def init_container(self, image_disk: str, scratch_disk: str, hostname: str, machine_id: str) -> None:
        """Container.Init; raises `Refusal`."""
        for serial in (image_disk, scratch_disk):
            if serial not in (self._disks or ()):
                raise Refusal(f"no disk {serial!r} is mounted: Guest.Init comes first")
        if self._container:
            raise Refusal("Container.Init is called once")
        self._container = True
        self._identity.name(hostname, machine_id)

    def freeze(self) -> None:
        """Guest.Freeze; raises `Refusal`."""
        if not self._container or self._was_frozen:
            raise Refusal("Guest.Freeze is called once, after Container.Init")
        self._frozen = self._was_frozen = True

    def restore(self, unix_time_ns: int, entropy: bytes, hostname: str, machine_id: str) -> None:
        """Guest.Restore; raises `Refusal`."""
        if not self._frozen:
            raise Refusal("Guest.Restore is called once, after Guest.Freeze")
        if len(entropy) < MIN_ENTROPY:
            raise Refusal(f"at least {MIN_ENTROPY} bytes of entropy")
        self._identity.reseed(entropy)
        self._clock.set_date(unix_time_ns / 1e9)
        self._identity.name(hostname, machine_id)
        self._frozen = False

    def start(self, start: ExecStart) -> Execution | StartFailed:
        """Starts a command; raises `Refusal`. One that is not found has run and failed, as in a shell."""
        if not self._container:
            raise Refusal("there is no container: Container.Init comes first")
        failure = self._check(start)
        if failure is not None:
            return failure
        argv = tuple(os.fsdecode(word) for word in start.argv)
        env = dict(os.fsdecode(variable).split("=", 1) for variable in start.env)
        program = self._programs.get(argv[0])
        self._pids += 1
        execution = Execution(start, 0 if program is None else self._pids, lambda: self._settle(execution))
        self._executions[execution.id] = execution
        process = Process(
            argv,
            env,
            programs=self._programs,
            clock=self._clock,
            identity=self._identity,
            stdin=execution.input,
            stdout=execution.stdout,
            stderr=execution.stderr,
        )
        if program is None:
            message = f"{argv[0]}: not found"
            execution.stderr.put(f"boxlite: {message}\n".encode())
            execution.finish(127, message=message)
        else:
            self._tasks.start_soon(execution.run, program, process)
            if start.timeout_ms:
                self._tasks.start_soon(execution.time_out, process, start.timeout_ms / 1000)
        return execution

    def find(self, name: str) -> Execution:
        """The execution of this id; raises `UnknownExecution`."""
        if name not in self._executions:
            raise UnknownExecution(f"no execution {name[:64]!r}; ended ones are forgotten after some time")
        return self._executions[name]

    def hold(self, execution: Execution) -> None:
        """The connection over which an execution was followed has ended: it waits some time for the next one."""
        self._tasks.start_soon(execution.hold, self._clock)

    def list(self) -> list[ExecutionInfo]:
        """All executions, the oldest first."""
        return [execution.info() for execution in self._executions.values()]

    async def stop(self, grace: float) -> None:
        """Ends every execution: SIGTERM, `grace` seconds later SIGKILL."""
        running = [execution for execution in self._executions.values() if execution.exited is None]
        for execution in running:
            execution.kill(signal.SIGTERM)
            # Nobody is to hold up an end by not reading.
            execution.release()
        with trio.move_on_after(grace):
            for execution in running:
                await execution.ended.wait()
        for execution in running:
            execution.kill(signal.SIGKILL)
        for execution in running:
            await execution.ended.wait()

    def _check(self, start: ExecStart) -> StartFailed | None:
        size = sum(len(text) + 1 for text in (*start.argv, *start.env))
        if not _ID.fullmatch(start.execution_id) or start.execution_id in self._executions:
            return StartFailed(reason=StartFailure.INVALID, message="the id is malformed, or in use")
        if not start.argv or not start.argv[0] or any(b"\0" in word for word in (*start.argv, *start.env)):
            return StartFailed(reason=StartFailure.INVALID, message="the command is empty, or has a NUL in it")
        if size > MAX_ARGUMENTS:
            return StartFailed(reason=StartFailure.TOO_LONG, message=f"more than {MAX_ARGUMENTS} bytes")
        if start.cwd not in _DIRECTORIES:
            return StartFailed(reason=StartFailure.WORKDIR, message=f"{os.fsdecode(start.cwd)}: no such directory")
        if not _USERS.fullmatch(start.user):
            return StartFailed(reason=StartFailure.USER, message=f"no user {start.user}")
        return None

    def _settle(self, execution: Execution) -> None:
        """Takes note of an execution that has ended, and forgets the oldest."""
        self._over.append(execution.id)
        while len(self._over) > KEPT or (len(self._over) > 1 and self._over_bytes() > KEPT_BYTES):
            del self._executions[self._over.popleft()]

    def _over_bytes(self) -> int:
        return sum(self._executions[name].kept for name in self._over)
