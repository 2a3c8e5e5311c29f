"""Process 1 of the virtual machine.

Whatever fails here ends the process with a traceback on the console. Then the kernel panics, the hypervisor ends, and
the host has the console's tail as evidence.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys

from guest.agent.container.init import fork_launcher
from guest.agent.disks import DISKS
from guest.agent.machine import CONTAINER_ROOT, Machine, prepare, read_nonce


def main() -> None:
    """The machine's life, from the start of user space to power-off."""
    # Nothing of the start-up is garbage, and software emulation makes each collection dear.
    gc.disable()
    prepare()
    nonce = read_nonce()
    # Before the server and its libraries are loaded: the container's processes are to be small.
    _, launcher = fork_launcher()
    # asyncio does without, and loading OpenSSL takes long in software emulation.
    sys.modules["ssl"] = None  # type: ignore[assignment]
    import asyncio

    asyncio.run(_serve(launcher, nonce))
    Machine().power_off()


async def _serve(launcher: socket.socket, nonce: str) -> None:
    import asyncio

    from guest.agent.guest_service import PROTOCOL
    from guest.agent.ports import PORTAL, find_port, open_port, send_ready
    from guest.agent.server import Agent

    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, _reap)
    agent = Agent(launcher, Machine(), disks=DISKS, root=CONTAINER_ROOT)
    portal = find_port(PORTAL)
    announced = False

    def announce() -> None:
        nonlocal announced
        if not announced:
            announced = True
            send_ready(nonce, PROTOCOL)

    gc.freeze()
    gc.enable()
    await agent.serve(lambda: open_port(portal), announce)


def _reap() -> None:
    """A process 1 inherits every orphan."""
    import os

    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return
