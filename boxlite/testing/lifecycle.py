"""`BoxLifecycle`: a Hypothesis state machine over a simulated host, to which users add rules for their own code."""

from __future__ import annotations

from boxlite.testing.extra import missing

try:
    from hypothesis import strategies as st
    from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
except ImportError as error:
    raise missing(__name__, error) from error

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio

from boxlite.boxes.box import Box
from boxlite.boxes.outcome import VmDied
from boxlite.errors import BoxCrashed, BoxliteError, RuntimeFailed
from boxlite.runtime.runtime import CreateOptions, Runtime
from boxlite.testing.faults import Fault
from boxlite.testing.host import SimulatedHost, open_host
from boxlite.testing.monitor import Monitor
from boxlite.testing.programs import PROGRAMS, Programs
from boxlite.testing.runtime import open_simulated_runtime
from boxlite.testing.strategies import SampleCommand, box_options, commands, fault_schedules
from boxlite.testing.virtual import Opened, VirtualTrio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE = 5000.0
"""Virtual seconds after which a call counts as never answered."""

_OPERATIONS = ("start", "stop", "restart", "pause", "resume", "remove", "status", "run")


class BoxLifecycle(RuleBasedStateMachine):
    """Any program of calls, crashes and faults, with the promises checked after each step.

    Run it as it is, or subclass it and add rules: `attempt` calls async code in the machine's virtual time, with
    `runtime`, `host` and `box` at hand.

        class MyPool(BoxLifecycle):
            @rule(size=st.integers(1, 3))
            def fill(self, size: int) -> None:
                self.attempt(fill_pool, self.runtime, size)

        TestMyPool = MyPool.TestCase
    """

    programs: Programs = PROGRAMS
    """What guests can execute."""

    names: Bundle[str] = Bundle("names")
    """Of boxes that were created; they may be gone."""

    runtime: Runtime
    """The one that is open now; another one after a crash."""

    host: SimulatedHost

    monitor: Monitor

    @initialize(seed=st.integers(0, 2**32 - 1), schedule=fault_schedules(), jitter=st.sampled_from((0.0, 0.01, 0.5)))
    def boot(self, seed: int, schedule: tuple[Fault, ...], jitter: float) -> None:
        """A host with a runtime, and what will go wrong on it."""
        self._trio = VirtualTrio(seed)
        opened = self._trio.open(open_host(seed=seed, faults=schedule, jitter=jitter, programs=self.programs))
        self.host = opened.value
        self.monitor = Monitor(self.host)
        self._open_runtime()

    @rule(target=names, options=box_options())
    def create(self, options: CreateOptions) -> str:
        """A box of a name that may be taken."""
        self.attempt(self._create, options)
        return options["name"]

    @rule(name=names)
    def start(self, name: str) -> None:
        """See `Box.start`."""
        self.on_box(name, Box.start)

    @rule(name=names, grace=st.sampled_from((0.0, 1.0, 10.0)))
    def stop(self, name: str, grace: float) -> None:
        """See `Box.stop`."""
        self.on_box(name, Box.stop, grace)

    @rule(name=names, grace=st.sampled_from((0.0, 1.0)))
    def restart(self, name: str, grace: float) -> None:
        """See `Box.restart`."""
        self.on_box(name, Box.restart, grace)

    @rule(name=names)
    def pause(self, name: str) -> None:
        """See `Box.pause`."""
        self.on_box(name, Box.pause)

    @rule(name=names)
    def resume(self, name: str) -> None:
        """See `Box.resume`."""
        self.on_box(name, Box.resume)

    @rule(name=names, force=st.booleans())
    def remove(self, name: str, force: bool) -> None:
        """See `Box.remove`."""
        self.attempt(self._remove, name, force)

    @rule(name=names, command=commands())
    def run_command(self, name: str, command: SampleCommand) -> None:
        """A command ends as it must, or with the machine."""
        self.on_box(name, self._run, command)

    @rule(
        first=st.tuples(st.sampled_from(_OPERATIONS), names),
        others=st.lists(st.tuples(st.sampled_from(_OPERATIONS), names), max_size=3),
    )
    def at_once(self, first: tuple[str, str], others: list[tuple[str, str]]) -> None:
        """Several callers at the same time."""
        self.attempt(self._at_once, [first, *others])

    @rule(seconds=st.sampled_from((0.01, 1.0, 40.0, 1000.0)))
    def pass_time(self, seconds: float) -> None:
        """Nobody asks for anything."""
        self.attempt(trio.sleep, seconds)

    @rule(name=names)
    def kill_machine(self, name: str) -> None:
        """The machine's process is killed by somebody else."""
        if any(machine.box == name for machine in self.host.machines):
            self._befall(lambda: self.host.kill_machine(name))

    @rule(name=names)
    def cut_connection(self, name: str) -> None:
        """The connection to the guest's agent ends."""
        if any(machine.box == name and machine.connected for machine in self.host.machines):
            self._befall(lambda: self.host.cut_connection(name))

    @rule()
    def make_room(self) -> None:
        """A full disk has room again."""
        self._befall(self.host.disk.make_room)

    @rule()
    def crash(self) -> None:
        """The process of the runtime is killed; the next one finds what is left."""
        self._befall(self.host.crash_runtime)
        self._open_runtime()

    @rule()
    def reopen(self) -> None:
        """The runtime ends, and the next one opens."""
        self._opened.close()
        self._open_runtime()

    @invariant()
    def no_promise_is_broken(self) -> None:
        """Legal transitions only, no orphans, no lost output, every call answered."""
        if hasattr(self, "monitor"):
            self.monitor.check_machines()
            self.monitor.check()

    def teardown(self) -> None:
        """Ends the runtime, and checks what is left."""
        if not hasattr(self, "_trio"):
            return
        try:
            if hasattr(self, "_opened"):
                self._opened.close()
                self.monitor.check_closed()
                self.monitor.check()
        finally:
            self._trio.close()

    def attempt(self, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T | BoxliteError:
        """Runs async code in virtual time; a `BoxliteError` is a result like another.

        A call that is never answered fails, and so does one that finds an actor crashed. Of a guest that hangs, or a
        machine that is paused, no answer is due: only the caller sets a limit then.
        """

        async def bounded() -> T | BoxliteError:
            with trio.move_on_after(PATIENCE):
                try:
                    return await fn(*args)
                except (BoxCrashed, RuntimeFailed):
                    raise
                except BoxliteError as error:
                    return error
            if self._may_be_silent():
                return BoxliteError("the guest hangs or stands still, and its caller has given up")
            raise trio.TooSlowError

        return self._trio.run(bounded)

    def on_box(self, name: str, fn: Callable[[Box, *Ts], Awaitable[T]], *args: *Ts) -> T | BoxliteError:
        """`attempt` with a box that is found by its name."""

        async def find_and_call() -> T:
            return await fn(await self.runtime.get(name), *args)

        return self.attempt(find_and_call)

    def _open_runtime(self) -> None:
        self.monitor.begin()
        self._opened: Opened[Runtime] = self._trio.open(
            open_simulated_runtime(host=self.host, announce=self.monitor.announced)
        )
        self.runtime = self._opened.value

    async def _create(self, options: CreateOptions) -> None:
        await self.runtime.create("builtin/python", **options)

    async def _remove(self, name: str, force: bool) -> None:
        await (await self.runtime.get(name)).remove(force=force)

    async def _run(self, box: Box, command: SampleCommand) -> None:
        done = await box.run(command.argv, input=command.input, check=False)
        if not isinstance(done.outcome, VmDied) and not self._lied_to():
            assert (done.outcome, done.stdout, done.stderr) == (command.outcome, command.stdout, command.stderr)

    def _may_be_silent(self) -> bool:
        paused = any(machine.paused for machine in self.host.machines)
        return paused or any("hang at" in line for line in self.host.history)

    def _lied_to(self) -> bool:
        """Whether a guest may have told a wrong exit, or kept its last words for itself, which nobody can see."""
        return any("lie at exit" in line or "lose at output" in line for line in self.host.history)

    async def _at_once(self, operations: list[tuple[str, str]]) -> None:
        async def call(operation: str, name: str) -> None:
            try:
                box = await self.runtime.get(name)
                if operation == "run":
                    await box.run(["true"], check=False)
                else:
                    await getattr(box, operation)()
            except (BoxCrashed, RuntimeFailed):
                raise
            except BoxliteError:
                pass

        async with trio.open_nursery() as nursery:
            for operation, name in operations:
                nursery.start_soon(call, operation, name)

    def _befall(self, what: Callable[[], None]) -> None:
        """Something that happens to the host, inside its Trio run."""

        async def happen() -> None:
            what()
            await trio.lowlevel.checkpoint()

        self.attempt(happen)
