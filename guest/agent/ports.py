"""The virtio-serial ports that lead to the host."""

from __future__ import annotations

import posix
import select

from guest.agent import loop
from guest.agent.files import is_directory

PORTAL = "org.boxlite.2695"
"""The port that carries the portal."""

READY = "org.boxlite.2696"
"""The port over which the agent says, once, that it serves."""

_PORTS = "/sys/class/virtio-ports"


def find_port(name: str) -> str:
    """The device of the port that the host gave this name; raises FileNotFoundError."""
    for device in posix.listdir(_PORTS) if is_directory(_PORTS) else ():
        if _name(device) == name.encode():
            return f"/dev/{device}"
    raise FileNotFoundError(f"the machine has no virtio-serial port {name}")


def send_ready(nonce: str, protocol: int) -> None:
    """Writes the ready notice and waits until the host has it; see docs/guest.md."""
    with open(find_port(READY), "wb", buffering=0) as port:
        port.write(b'{"nonce": "%b", "protocol": %d}\n' % (nonce.encode(), protocol))


def _name(device: str) -> bytes:
    try:
        with open(f"{_PORTS}/{device}/name", "rb", buffering=0) as file:
            return file.read().strip()
    except FileNotFoundError:
        return b""  # The port of a console has none.


async def open_port(device: str) -> int:
    """Opens a port, once the host is at its other end. The descriptor does not block.

    While the host is away the device reports a hang-up all the time, so the wait is for a change of state: an
    edge-triggered epoll, which itself can be waited for.
    """
    descriptor = posix.open(device, posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC)
    try:
        if _hung_up(descriptor):
            await _wait_until_connected(descriptor)
    except BaseException:
        posix.close(descriptor)
        raise
    return descriptor


async def _wait_until_connected(descriptor: int) -> None:
    with select.epoll() as edges:
        edges.register(descriptor, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        changed = loop.Event()
        loop.add_reader(edges.fileno(), changed.set)
        try:
            while _hung_up(descriptor):
                await changed.wait()
                changed.clear()
                edges.poll(0)
        finally:
            loop.remove_reader(edges.fileno())


def _hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
