"""The virtio-serial ports that lead to the host."""

from __future__ import annotations

import asyncio
import glob
import os
import select

PORTAL = "org.boxlite.2695"
"""The port that carries the portal."""

READY = "org.boxlite.2696"
"""The port over which the agent says, once, that it serves."""


def find_port(name: str) -> str:
    """The device of the port that the host gave this name; raises FileNotFoundError."""
    for path in glob.glob("/sys/class/virtio-ports/*/name"):
        with open(path) as file:
            if file.read().strip() == name:
                return f"/dev/{path.split('/')[4]}"
    raise FileNotFoundError(f"the machine has no virtio-serial port {name}")


def send_ready(nonce: str, protocol: int) -> None:
    """Writes the ready notice and waits until the host has it; see docs/guest.md."""
    with open(find_port(READY), "wb", buffering=0) as port:
        port.write(b'{"nonce": "%b", "protocol": %d}\n' % (nonce.encode(), protocol))


async def open_port(device: str) -> int:
    """Opens a port, once the host is at its other end. The descriptor does not block.

    While the host is away the device reports a hang-up all the time, so the wait is for a change of state: an
    edge-triggered epoll, which itself can be waited for.
    """
    loop = asyncio.get_running_loop()
    descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with select.epoll() as edges:
            edges.register(descriptor, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
            changed = asyncio.Event()
            loop.add_reader(edges.fileno(), changed.set)
            try:
                while _hung_up(descriptor):
                    await changed.wait()
                    changed.clear()
                    edges.poll(0)
            finally:
                loop.remove_reader(edges.fileno())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
