"""The agent as a process of its own, as it is in a machine; `harness` starts it.

Arguments: the descriptor of the launcher's socket, that of the socket over which connections come, the directory of the
disks, the container's root, the file that takes what the Guest service does, and the seconds of `HOLD`.
"""

from __future__ import annotations

import socket
import sys

from guest.agent import execution, loop
from guest.agent.server import Agent


class Machine:
    """Notes what the Guest service does to the machine, a line a call."""

    def __init__(self, log: str) -> None:
        self._log = log

    def set_clock(self, unix_time_ns: int) -> None:
        self._note(f"set_clock {unix_time_ns}")

    def add_entropy(self, data: bytes) -> None:
        self._note(f"add_entropy {data.hex()}")

    def mount_disk(self, serial: str, *, read_only: bool) -> None:
        self._note(f"mount_disk {serial} {read_only}")

    def write_disks(self) -> None:
        self._note("write_disks")

    def set_network_addresses(self, address: bytes) -> None:
        self._note(f"set_network_addresses {address.hex()}")

    def get_ready(self) -> None:
        self._note("get_ready")

    def _note(self, line: str) -> None:
        with open(self._log, "a") as file:
            file.write(line + "\n")


class Connections:
    """Descriptors that come over a socket, until the test closes it."""

    def __init__(self, control: socket.socket) -> None:
        self.closed = loop.Event()
        self._control = control
        self._came: list[int] = []
        self._changed = loop.Event()
        loop.add_reader(control.fileno(), self._readable)

    async def next(self) -> int:
        while not self._came:
            self._changed.clear()
            await self._changed.wait()
        return self._came.pop(0)

    def _readable(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
        if not data:
            loop.remove_reader(self._control.fileno())
            self.closed.set()
        self._came += descriptors
        self._changed.set()


async def main(launcher: str, control: str, disks: str, root: str, log: str, hold: str) -> None:
    """Serves until the test wants no more of it, or Shutdown was answered."""
    execution.HOLD = float(hold)
    agent = Agent(socket.socket(fileno=int(launcher)), Machine(log), disks=disks, root=root)
    connections = Connections(socket.socket(fileno=int(control)))

    async def serve() -> None:
        await agent.serve(connections.next, lambda: None)
        connections.closed.set()

    loop.spawn(serve())
    await connections.closed.wait()
    await agent.container.stop(0)


if __name__ == "__main__":
    loop.run(main(*sys.argv[1:]))
