"""Simulated users of a runtime: random operations, each with what must hold of its result."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable
from typing import final

import trio

from boxlite.boxes.box import Box
from boxlite.boxes.lifecycle import UP
from boxlite.boxes.outcome import Exited, VmDied
from boxlite.boxes.policy import HealthCheck
from boxlite.errors import BoxCrashed, BoxliteError, OutputGap, RuntimeFailed
from boxlite.runtime.runtime import Runtime
from boxlite.testing.host import SimulatedHost
from boxlite.testing.monitor import Monitor
from boxlite.testing.programs import numbers

PATIENCE = 3000.0
"""Virtual seconds after which an operation counts as never answered: longer than all deadlines of a box together."""

_CANCELLED_AFTER = (0.0, 0.01, 1.0, 20.0)


@final
class User:
    """One of several tasks that use the boxes of a runtime at once. `names` are the boxes that they share.

    `budget` says that the runtime has one.
    """

    def __init__(
        self,
        runtime: Runtime,
        host: SimulatedHost,
        monitor: Monitor,
        source: random.Random,
        names: list[str],
        *,
        budget: bool,
    ) -> None:
        self._runtime = runtime
        self._host = host
        self._monitor = monitor
        self._random = source
        self._names = names
        self._budget = budget
        commands = (self._run_command, self._copy, self._read_a_part, self._come_back_later)
        self._waiting = (self._start, self._restart, *commands)
        """What may wait for a guest, or for a share of the budget, as long as its caller does."""
        self._operations: tuple[tuple[Callable[[str], Awaitable[object]], int], ...] = (
            (self._create, 8),
            (self._start, 5),
            (self._run_command, 8),
            (self._copy, 3),
            (self._read_a_part, 3),
            (self._come_back_later, 3),
            (self._stop, 4),
            (self._restart, 2),
            (self._pause, 2),
            (self._resume, 4),
            (self._remove, 5),
            (self._look, 2),
            (self._kill_machine, 1),
            (self._cut_connection, 2),
        )

    async def act(self, times: int) -> None:
        """So many operations, one after the other."""
        kinds = [kind for kind, _ in self._operations]
        weights = [weight for _, weight in self._operations]
        for _ in range(times):
            (operation,) = self._random.choices(kinds, weights)
            await self._perform(operation, self._random.choice(self._names))
            if self._random.random() < 0.3:
                await trio.sleep(self._random.expovariate(1.0))

    async def _perform(self, operation: Callable[[str], Awaitable[object]], name: str) -> None:
        what = f"{operation.__name__.strip('_')} {name}"
        patience = self._random.choice(_CANCELLED_AFTER) if self._random.random() < 0.1 else PATIENCE
        with trio.move_on_after(patience) as scope:
            result = await self._attempt(operation, name)
            self._monitor.note(f"{what}: {result}")
        if scope.cancelled_caught:
            self._monitor.note(f"{what}: cancelled")
            promised = patience >= PATIENCE and not (operation in self._waiting and self._excused(name))
            self._monitor.require(not promised, f"{what} was never answered")
        self._monitor.check_machines()

    def _excused(self, name: str) -> bool:
        """Whether a guest may be silent for ever, or the budget never have room: then only the caller sets a limit."""
        return (
            self._monitor.was_paused(name, PATIENCE)
            or self._budget
            or any("hang at" in line for line in self._host.history)
        )

    def _check_output(self, name: str, output: bytes | None, expected: bytes) -> None:
        """Complete and in order."""
        self._monitor.require(
            output == expected, f"{name}: {len(output or b'')} of {len(expected)} bytes of output, or others"
        )

    async def _attempt(self, operation: Callable[[str], Awaitable[object]], name: str) -> str:
        try:
            return str(await operation(name))
        except (BoxCrashed, RuntimeFailed) as error:
            self._monitor.require(False, f"{operation.__name__}: {error}")
            return "crash"
        except BoxliteError as error:
            return f"{type(error).__name__}"
        except LookupError as error:
            return str(error)

    async def _create(self, name: str) -> object:
        healthy = HealthCheck(("true",), interval=5.0, timeout=2.0, retries=2)
        # What the budget has no room for waits as long as other boxes are kept, perhaps for ever.
        with trio.move_on_after(20):
            return await self._runtime.create(
                "builtin/python",
                wait=self._random.random() < 0.5,
                name=name,
                restart=self._random.choice(("no", "no", "on-failure:2", "always", "unless-stopped")),
                health=healthy if self._random.random() < 0.2 else None,
                detached=self._random.random() < 0.3,
                boot_timeout=60.0,
            )
        return "no room"

    async def _start(self, name: str) -> None:
        await (await self._runtime.get(name)).start()

    async def _run_command(self, name: str) -> object:
        """A command that has no reason to fail says all that it has to say, or how its machine failed it."""
        box = await self._runtime.get(name)
        code, size = self._random.randrange(256), self._random.choice((1, 10, 20_000))
        expected = numbers(1, size)
        done = await box.run(["sh", "-c", f"seq 1 {size}; exit {code}"], check=False)
        if isinstance(done.outcome, Exited):
            self._check_output(name, done.stdout, expected)
        return done.outcome

    async def _copy(self, name: str) -> object:
        box = await self._runtime.get(name)
        data = self._random.randbytes(self._random.choice((0, 10, 200_000)))
        done = await box.run(["cat"], input=data, check=False)
        if isinstance(done.outcome, Exited):
            self._check_output(name, done.stdout, data)
        return done.outcome

    async def _read_a_part(self, name: str) -> object:
        box = await self._runtime.get(name)
        async with box.exec(["yes"]) as execution:
            head = await execution.stdout.receive_some(1000)
            # The first of it may come in pieces.
            sound = head and (b"y\n" * 500).startswith(head)
            self._monitor.require(sound or execution.outcome, f"{name}: yes said {head[:20]!r}")
            pid = (await box.status()).pid
            await execution.kill(signal.SIGTERM)
            await execution.stdout.aclose()
            outcome = await execution.wait()
            if isinstance(outcome, VmDied) and pid is not None:
                status = await box.status()
                # One that is being stopped may take until then to notice.
                runs = status.state in UP and status.pid == pid
                self._monitor.require(not runs, f"{name}: its machine died, and it says {status}")
            return outcome

    async def _come_back_later(self, name: str) -> object:
        """What a command wrote while nobody was attached comes complete, or with a gap that is stated."""
        box = await self._runtime.get(name)
        size = self._random.choice((10, 1000, 400_000))
        expected = numbers(1, size)
        execution_id = await box.spawn(["seq", "1", str(size)])
        await trio.sleep(self._random.choice((0.0, 0.1, 10.0)))
        offset = 0
        async with box.attach(execution_id) as execution:
            while True:
                try:
                    chunk = await execution.stdout.receive_some()
                except OutputGap as gap:
                    self._monitor.require(gap.start == offset, f"{name}: a gap from {gap.start} on after {offset}")
                    offset = gap.end
                    continue
                if not chunk:
                    break
                self._monitor.require(
                    chunk == expected[offset : offset + len(chunk)], f"{name}: wrong output at {offset}"
                )
                offset += len(chunk)
            outcome = await execution.wait()
        if isinstance(outcome, Exited):
            self._check_output(name, expected[:offset], expected)
        return outcome

    async def _stop(self, name: str) -> None:
        await (await self._runtime.get(name)).stop(self._random.choice((0.0, 1.0, 10.0)))

    async def _restart(self, name: str) -> None:
        await (await self._runtime.get(name)).restart(self._random.choice((0.0, 1.0)))

    async def _pause(self, name: str) -> None:
        await (await self._runtime.get(name)).pause()

    async def _resume(self, name: str) -> None:
        await (await self._runtime.get(name)).resume()

    async def _remove(self, name: str) -> None:
        await (await self._runtime.get(name)).remove(force=self._random.random() < 0.7)

    async def _look(self, name: str) -> object:
        boxes: tuple[Box, ...] = await self._runtime.list()
        self._runtime.tree()
        return (await (await self._runtime.get(name)).status()).state, len(boxes)

    async def _kill_machine(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self._host.kill_machine(name)

    async def _cut_connection(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self._host.cut_connection(name)
