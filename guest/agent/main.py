"""Process 1 of the virtual machine.

Whatever fails here ends the process with a traceback on the console. Then the kernel panics, the hypervisor ends, and
the host has the console's tail as evidence.
"""

from __future__ import annotations

import gc
import posix

from guest.agent.container.init import fork_launcher
from guest.agent.disks import DISKS
from guest.agent.machine import CONTAINER_ROOT, Machine, prepare, read_nonce
from guest.agent.syscalls import keep_free_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal
    from collections.abc import Awaitable, Callable
else:
    import _signal as signal


def main() -> None:
    """The machine's life, from the start of user space to power-off."""
    # Nothing of the start-up is garbage, and software emulation makes each collection dear.
    gc.disable()
    keep_free_memory()
    prepare()
    nonce = read_nonce()
    # Before the server is loaded: the container's processes are to be small.
    _, launcher = fork_launcher()
    from guest.agent import loop

    loop.run(_serve(launcher, nonce))
    Machine().power_off()


async def _serve(launcher: _socket.socket, nonce: str) -> None:
    from guest.agent.boot import read_argument
    from guest.agent.server import Agent

    _reap_orphans()
    agent = Agent(launcher, Machine(), disks=DISKS, root=CONTAINER_ROOT)
    if read_argument("boxlite.portal") == "vsock":
        connect, announce = _by_vsock(nonce)
    else:
        connect, announce = await _by_ports(nonce)
    gc.freeze()
    gc.enable()
    await agent.serve(connect, announce)


async def _by_ports(nonce: str) -> tuple[Callable[[], Awaitable[int]], Callable[[], None]]:
    from guest.agent.guest_service import PROTOCOL
    from guest.agent.ports import PORTAL, READY, find_port, open_port, send_ready

    portal, ready = await find_port(PORTAL), await find_port(READY)
    announced = False

    def announce() -> None:
        nonlocal announced
        if not announced:
            announced = True
            send_ready(ready, nonce, PROTOCOL)

    return lambda: open_port(portal), announce


def _by_vsock(nonce: str) -> tuple[Callable[[], Awaitable[int]], Callable[[], None]]:
    from guest.agent.guest_service import PROTOCOL
    from guest.agent.vsock import listen, send_ready

    listener = listen()
    # The host connects when it knows that somebody listens.
    send_ready(nonce, PROTOCOL)
    return listener.accept, lambda: None


def _reap_orphans() -> None:
    """From now on reaps every process that ends: a process 1 inherits every orphan."""
    from guest.agent import loop

    reader, writer = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def reap() -> None:
        try:
            posix.read(reader, 4096)
            while posix.waitpid(-1, posix.WNOHANG) != (0, 0):
                pass
        except (BlockingIOError, ChildProcessError):
            return  # Nobody ended, or nobody is left.

    loop.add_reader(reader, reap)
