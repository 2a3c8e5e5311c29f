"""The virtio-serial ports that lead to the host."""

from __future__ import annotations

import _socket
import posix
import select

from guest.agent import loop
from guest.agent.files import is_directory

PORTAL = "org.boxlite.2695"
"""The port that carries the portal."""

READY = "org.boxlite.2696"
"""The port over which the agent says, once, that it serves."""

PATIENCE = 20.0
"""Seconds that a port has to appear."""

_PORTS = "/sys/class/virtio-ports"
_KOBJECT_UEVENT = 15  # linux/netlink.h
_KERNEL = 1  # the group of what the kernel itself tells
_LONGEST_CHANGE = 8192


async def find_port(name: str) -> str:
    """The device of the port that the host gave this name; raises FileNotFoundError when it does not come.

    The agent may be quicker than the ports get their names, of which the kernel then tells.
    """
    device = _look_for(name)
    if device is None:
        changes = _open_changes()
        try:
            async with loop.timeout(PATIENCE):
                device = await _wait_for(name, changes)
        except TimeoutError:
            raise FileNotFoundError(f"the machine has no virtio-serial port {name}") from None
        finally:
            changes.close()
    return f"/dev/{device}"


def send_ready(device: str, nonce: str, protocol: int) -> None:
    """Writes the ready notice to the port and waits until the host has it; see docs/guest.md."""
    with open(device, "wb", buffering=0) as port:
        port.write(b'{"nonce": "%b", "protocol": %d}\n' % (nonce.encode(), protocol))


def _look_for(name: str) -> str | None:
    devices = posix.listdir(_PORTS) if is_directory(_PORTS) else ()
    return next((device for device in devices if _name(device) == name.encode()), None)


async def _wait_for(name: str, changes: _socket.socket) -> str:
    changed = loop.Event()
    loop.add_reader(changes.fileno(), changed.set)
    try:
        while (device := _look_for(name)) is None:
            await changed.wait()
            changed.clear()
            _skip(changes)
    finally:
        loop.remove_reader(changes.fileno())
    return device


def _open_changes() -> _socket.socket:
    """A socket on which the kernel tells of every device that changes (netlink(7), NETLINK_KOBJECT_UEVENT)."""
    kind = _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
    changes = _socket.socket(_socket.AF_NETLINK, kind, _KOBJECT_UEVENT)
    changes.bind((0, _KERNEL))
    return changes


def _skip(changes: _socket.socket) -> None:
    try:
        while changes.recv(_LONGEST_CHANGE):
            pass
    except OSError:
        return  # There are no more; or there were more than it could hold, which is as good as one.


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
