"""All executions of the container, by their ids."""

from __future__ import annotations

import asyncio
import itertools

from guest.agent.command import Refused, spawn_request
from guest.agent.container.client import ContainerClient
from guest.agent.container.messages import Spawn
from guest.agent.execution import Execution
from proto.boxlite.v1 import ExecStart, StartFailure

KEPT = 64
"""How many ended executions are kept for Attach and Wait, beside those that have left processes in their group."""

KEPT_BYTES = 8 << 20
"""How much output of ended executions is kept."""


class UnknownExecution(LookupError):
    """No execution has this id, or not any more."""


class Executions:
    """Starts executions and finds them again; ended ones are kept until newer ones take their place."""

    def __init__(self) -> None:
        self._keys = itertools.count(1)
        self._by_id: dict[str, Execution] = {}
        self._by_key: dict[int, Execution] = {}  # those that have not ended, or have left processes in their group
        self._ended: list[str] = []  # oldest first
        self._launches: set[asyncio.Task[None]] = set()

    async def start(self, container: ContainerClient, start: ExecStart) -> Execution:
        """Starts a command; raises `Refused` or `ContainerError`. It starts also when the caller is cancelled."""
        key, name = next(self._keys), start.execution_id
        request = spawn_request(start, key)
        if name in self._by_id:
            raise Refused(StartFailure.INVALID, f"there is an execution {name} already")
        execution = Execution(key, container, on_end=lambda: self._keep(key, name))
        self._by_id[name] = self._by_key[key] = execution
        launch = asyncio.get_running_loop().create_task(self._launch(execution, start, request))
        self._launches.add(launch)
        launch.add_done_callback(self._launched)
        await asyncio.shield(launch)
        return execution

    async def find(self, name: str) -> Execution:
        """The execution of this id, once it runs; raises `UnknownExecution`."""
        execution = self._by_id.get(name)
        if execution is not None:
            await execution.launched.wait()
        if execution is None or self._by_id.get(name) is not execution:
            raise UnknownExecution(f"no execution {name[:64]!r}; ended ones are forgotten after some time")
        return execution

    def first_process_ended(self, key: int, status: int) -> None:
        """See `Execution.first_process_ended`."""
        if key in self._by_key:
            self._by_key[key].first_process_ended(status)

    def group_gone(self, key: int) -> None:
        """See `Execution.group_gone`."""
        if key in self._by_key:
            self._by_key[key].group_gone()
            self._tidy(key)

    def container_ended(self, reason: str) -> None:
        """Ends all of them."""
        for execution in list(self._by_key.values()):
            execution.container_ended(reason)

    async def _launch(self, execution: Execution, start: ExecStart, request: Spawn) -> None:
        try:
            await execution.launch(start, request)
        except BaseException:
            del self._by_key[request.key], self._by_id[start.execution_id]
            raise
        finally:
            execution.launched.set()

    def _launched(self, launch: asyncio.Task[None]) -> None:
        self._launches.discard(launch)
        if not launch.cancelled():
            launch.exception()  # Its caller may be gone; then nobody asks for it.

    def _keep(self, key: int, name: str) -> None:
        self._ended.append(name)
        self._tidy(key)

    def _tidy(self, key: int) -> None:
        """Forgets what is over: but never an execution of which there is still something to kill."""
        execution = self._by_key.get(key)
        if execution is not None and execution.exited is not None and not execution.has_group:
            del self._by_key[key]
        kept = sum(self._by_id[name].size for name in self._ended)
        over = [name for name in self._ended if not self._by_id[name].has_group]
        while len(over) > KEPT or (kept > KEPT_BYTES and len(over) > 1):
            oldest = over.pop(0)
            self._ended.remove(oldest)
            kept -= self._by_id.pop(oldest).size
