"""The agent: all services of the portal, over one connection after the other."""

from __future__ import annotations

from guest.agent import loop
from guest.agent.container.client import ContainerClient
from guest.agent.container_service import ContainerService
from guest.agent.execution_service import ExecutionService
from guest.agent.executions import Executions
from guest.agent.guest_service import GuestService
from guest.agent.handshake import Handshake
from guest.agent.rpc.calls import CallError, Status
from guest.agent.rpc.server import Method, Server, streaming, unary
from guest.agent.transport import DescriptorTransport
from proto.lean import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Awaitable, Callable
    from typing import Any

    from guest.agent.guest_service import Machine
    from guest.agent.rpc.server import Call

_WHILE_FROZEN = {"/boxlite.v1.Guest/Ping", "/boxlite.v1.Guest/Restore"}

_GOODBYE = 0.25
"""Seconds that the host has to take the reply to Shutdown and hang up."""


class Agent:
    """The services and what they share. `launcher` is the socket of the container's launcher."""

    def __init__(self, launcher: _socket.socket, machine: Machine, *, disks: str, root: str) -> None:
        executions = Executions()
        self.container = ContainerClient(
            launcher,
            on_exit=executions.first_process_ended,
            on_group_gone=executions.group_gone,
            on_end=executions.container_ended,
        )
        containers = ContainerService(self.container, disks=disks, root=root)
        self._guest = GuestService(machine, self.container)
        methods = _methods(self._guest, containers, ExecutionService(containers, executions))
        self._server = Server({path: self._admitting(path, method) for path, method in methods.items()})
        self._transport: DescriptorTransport | None = None

    async def serve(self, connect: Callable[[], Awaitable[int]], on_connected: Callable[[], None]) -> None:
        """Serves one connection after the other, until Shutdown has been answered.

        `connect` waits for the host and gives a descriptor of the connection. Executions live on from one connection to
        the next.
        """
        serving = loop.spawn(self._serve_all(connect, on_connected))
        await self._guest.stopped.wait()
        if self._transport is not None:
            await _wait_at_most(_GOODBYE, self._transport.closed)
        serving.cancel()

    async def _serve_all(self, connect: Callable[[], Awaitable[int]], on_connected: Callable[[], None]) -> None:
        while True:
            self._transport = DescriptorTransport(await connect(), Handshake(self._server.connection))
            on_connected()
            await self._transport.closed.wait()

    def _admitting(self, path: str, method: Method) -> Method:
        """The method, but for a machine that is frozen."""
        if path in _WHILE_FROZEN:
            return method

        async def run(call: Call[Any, Any]) -> None:
            if self._guest.frozen:
                raise CallError(Status.FAILED_PRECONDITION, "the machine is frozen: Guest.Restore comes first")
            await method.run(call)

        return Method(method.request_type, run)


def _methods(guest: GuestService, containers: ContainerService, executions: ExecutionService) -> dict[str, Method]:
    """How each call of guest.proto is answered, by its path."""
    return {
        "/boxlite.v1.Guest/Init": unary(messages.GuestInitRequest, guest.init),
        "/boxlite.v1.Guest/Ping": unary(messages.PingRequest, guest.ping),
        "/boxlite.v1.Guest/SetClock": unary(messages.SetClockRequest, guest.set_clock),
        "/boxlite.v1.Guest/Freeze": unary(messages.FreezeRequest, guest.freeze),
        "/boxlite.v1.Guest/Restore": unary(messages.RestoreRequest, guest.restore),
        "/boxlite.v1.Guest/Shutdown": unary(messages.ShutdownRequest, guest.shutdown),
        "/boxlite.v1.Container/Init": unary(messages.ContainerInitRequest, containers.init),
        "/boxlite.v1.Execution/Exec": streaming(messages.ExecRequest, executions.exec),
        "/boxlite.v1.Execution/Attach": streaming(messages.AttachRequest, executions.attach),
        "/boxlite.v1.Execution/SendInput": streaming(messages.InputChunk, executions.send_input),
        "/boxlite.v1.Execution/Wait": unary(messages.WaitRequest, executions.wait),
        "/boxlite.v1.Execution/Kill": unary(messages.KillRequest, executions.kill),
        "/boxlite.v1.Execution/List": unary(messages.ListRequest, executions.list),
        "/boxlite.v1.Execution/ResizeTty": unary(messages.ResizeTtyRequest, executions.resize_tty),
    }


async def _wait_at_most(seconds: float, event: loop.Event) -> None:
    try:
        async with loop.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
