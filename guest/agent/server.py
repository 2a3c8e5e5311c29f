"""The agent: all services of the portal, over one connection after the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.events import RecvRequest, listen
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from guest.agent.container.client import ContainerClient
from guest.agent.container_service import ContainerService
from guest.agent.execution_service import ExecutionService
from guest.agent.executions import Executions
from guest.agent.guest_service import GuestService, Machine
from guest.agent.handshake import Handshake
from guest.agent.transport import DescriptorTransport

# A stream that nobody reads fills its own window only, and the connection's has room for a few hundred of those.
_CONFIGURATION = Configuration(http2_connection_window_size=64 << 20, http2_stream_window_size=256 << 10)

_WHILE_FROZEN = {"/boxlite.v1.Guest/Ping", "/boxlite.v1.Guest/Restore"}

_GOODBYE = 0.25
"""Seconds that the host has to take the reply to Shutdown and hang up."""


class Agent:
    """The services and what they share. `launcher` is the socket of the container's launcher."""

    def __init__(self, launcher: socket.socket, machine: Machine, *, disks: str, root: str) -> None:
        self.executions = Executions()
        self.container = ContainerClient(
            launcher,
            on_exit=self.executions.first_process_ended,
            on_group_gone=self.executions.group_gone,
            on_end=self.executions.container_ended,
        )
        containers = ContainerService(self.container, disks=disks, root=root)
        self._guest = GuestService(machine, self.container)
        executions = ExecutionService(containers, self.executions, self._connection)
        self._server = Server([self._guest, containers, executions], config=_CONFIGURATION)
        listen(self._server, RecvRequest, self._admit)
        self._transport: DescriptorTransport | None = None

    async def serve(self, connect: Callable[[], Awaitable[int]], on_connected: Callable[[], None]) -> None:
        """Serves one connection after the other, until Shutdown has been answered.

        `connect` waits for the host and gives a descriptor of the connection. Executions live on from one connection to
        the next.
        """
        while True:
            # grpclib listens on sockets alone; for anything else it has this, which pyproject.toml pins.
            transport = DescriptorTransport(await connect(), Handshake(self._server._protocol_factory))
            self._transport = transport
            on_connected()
            await _first(transport.closed, self._guest.stopped)
            if self._guest.stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GOODBYE):
                        await transport.closed.wait()
                return

    async def _admit(self, call: RecvRequest) -> None:
        if self._guest.frozen and call.method_name not in _WHILE_FROZEN:
            raise GRPCError(Status.FAILED_PRECONDITION, "the machine is frozen: Guest.Restore comes first")

    def _connection(self) -> DescriptorTransport:
        assert self._transport is not None
        return self._transport


async def _first(*events: asyncio.Event) -> None:
    """Waits until one of them is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
