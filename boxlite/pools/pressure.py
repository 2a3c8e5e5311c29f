"""Whether the host runs short of memory: the kernel tells where it can (PSI), and else it is looked at now and then."""

from __future__ import annotations

import os
import select
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

import trio

MemoryWatch: TypeAlias = Callable[[Callable[[], None], float], Awaitable[None]]
"""Calls back at each sign that memory is short, until it is cancelled; the number is the seconds between two looks,
where it has to look."""

LOW: Final = 0.1
"""The share of the host's memory that must be available; only where the kernel has no PSI."""

_PRESSURE: Final = Path("/proc/pressure/memory")
_MEMINFO: Final = Path("/proc/meminfo")

# Some task was stalled for memory in 150 ms of 2 s: a window of that length is open to every user since Linux 6.5
# (docs.kernel.org/accounting/psi.html).
_TRIGGER: Final = b"some 150000 2000000\0"


async def watch_host_memory(on_pressure: Callable[[], None], interval: float) -> None:
    """The `MemoryWatch` of this host. The kernel tells once in two seconds at most, as long as tasks stall."""
    try:
        trigger = os.open(_PRESSURE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        await sample_memory(on_pressure, interval)
        return
    try:
        try:
            os.write(trigger, _TRIGGER)
        except OSError:
            # An older kernel, which tells only the privileged.
            await sample_memory(on_pressure, interval)
            return
        await watch_urgent(trigger, on_pressure)
    finally:
        os.close(trigger)


async def watch_urgent(descriptor: int, on_urgent: Callable[[], None]) -> None:
    """Calls back whenever POLLPRI comes for a descriptor, until it is cancelled."""
    with select.epoll() as epoll:
        epoll.register(descriptor, select.EPOLLPRI | select.EPOLLET)
        while True:
            # Trio waits for no POLLPRI, but an epoll descriptor with such an event can be read.
            await trio.lowlevel.wait_readable(epoll.fileno())
            epoll.poll(0)
            on_urgent()


async def sample_memory(on_pressure: Callable[[], None], interval: float) -> None:
    """Calls back after each interval at whose end less than `LOW` of the memory is available."""
    while True:
        await trio.sleep(interval)
        if is_short(_MEMINFO.read_text()):
            on_pressure()


def is_short(meminfo: str) -> bool:
    """Whether /proc/meminfo (proc(5)) says that less than `LOW` of the memory is available."""
    kibibytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in meminfo.splitlines())}
    return kibibytes["MemAvailable"] < LOW * kibibytes["MemTotal"]


async def watch_nothing(on_pressure: Callable[[], None], interval: float) -> None:
    """The `MemoryWatch` of a host that never runs short."""
    await trio.sleep_forever()
