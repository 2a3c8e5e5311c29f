"""All executions of the container, by their ids."""

from __future__ import annotations

from guest.agent import loop
from guest.agent.command import Refused, spawn_request
from guest.agent.execution import Execution
from proto.lean.messages import StartFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guest.agent.container.client import ContainerClient
    from proto.lean.messages import ExecStart, ExecutionInfo

KEPT = 64
"""How many ended executions are kept for Attach and Wait, beside those that have left processes in their group."""

KEPT_BYTES = 8 << 20
"""How much output of ended executions is kept."""

_LISTED_BYTES = 512 << 10
"""Bytes of arguments in a list: a message to the host may have 1 MiB."""


class UnknownExecution(LookupError):
    """No execution has this id, or not any more."""


class Executions:
    """Starts executions and finds them again; ended ones are kept until newer ones take their place."""

    def __init__(self) -> None:
        self._last_key = 0
        self._by_id: dict[str, Execution] = {}
        self._by_key: dict[int, tuple[str, Execution]] = {}  # those that are not over
        self._over: list[str] = []  # oldest first
        self._over_bytes = 0

    async def start(self, container: ContainerClient, start: ExecStart) -> Execution:
        """Starts a command; raises `Refused` or `ContainerError`. The caller follows it, or releases it.

        It starts also when the caller is cancelled; then it waits for a follower as if it had been cut off from one.
        """
        key, name = self._last_key + 1, start.execution_id
        request = spawn_request(start, key)
        if name in self._by_id:
            raise Refused(StartFailure.INVALID, f"there is an execution {name} already")
        self._last_key = key
        execution = Execution(key, container, start, on_over=lambda: self._settle(key))
        self._by_id[name] = execution
        self._by_key[key] = name, execution
        execution.launch(request)
        try:
            await execution.launched.wait()
        except loop.Cancelled:
            execution.hold()
            raise
        if execution.failure is not None:
            raise execution.failure
        return execution

    async def find(self, name: str) -> Execution:
        """The execution of this id, once it runs; raises `UnknownExecution`."""
        execution = self._by_id.get(name)
        if execution is not None:
            await execution.launched.wait()
        if execution is None or self._by_id.get(name) is not execution:
            raise UnknownExecution(f"no execution {name[:64]!r}; ended ones are forgotten after some time")
        return execution

    def list(self) -> list[ExecutionInfo]:
        """All that are known and have started, the oldest first."""
        known = [execution for execution in self._by_id.values() if execution.launched.is_set()]
        return [execution.info(_LISTED_BYTES // len(known)) for execution in known]

    def first_process_ended(self, key: int, status: int) -> None:
        """See `Execution.first_process_ended`."""
        if key in self._by_key:
            self._by_key[key][1].first_process_ended(status)

    def group_gone(self, key: int) -> None:
        """See `Execution.group_gone`."""
        if key in self._by_key:
            self._by_key[key][1].group_gone()
            self._settle(key)

    def container_ended(self, reason: str) -> None:
        """Ends all of them."""
        for key, (_, execution) in list(self._by_key.items()):
            execution.container_ended(reason)
            self._settle(key)

    def _settle(self, key: int) -> None:
        """Takes note of an execution that is over."""
        name, execution = self._by_key.get(key, ("", None))
        if execution is not None and execution.failure is not None:
            del self._by_key[key], self._by_id[name]
            return
        if execution is None or not execution.over:
            return
        del self._by_key[key]
        self._over.append(name)
        self._over_bytes += execution.size
        while len(self._over) > KEPT or (self._over_bytes > KEPT_BYTES and len(self._over) > 1):
            self._over_bytes -= self._by_id.pop(self._over.pop(0)).size
