"""How a machine's state leaves QEMU and comes into another one: QEMU's migration, over a socket pair.

QEMU gets a descriptor and no path, so that it may stay without the right to start processes. Of a regular file behind
`fd:` it says that this is deprecated (since QEMU 9.1), of a socket not.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from boxlite.printable import printable
from boxlite.vmm.qmp import Command, Monitor, MonitorError, Said
from boxlite.vmm.together import together

MAX_STATE: Final = 64 << 20
"""Bytes of a saved state; without the memory, which is in a file of its own, some tens of kilobytes are usual."""

_CHUNK = 256 << 10
_NAME = "s"
_CAPABILITIES = Command(
    "migrate-set-capabilities",
    {
        "capabilities": [
            # The memory is in a file, and not written once more.
            {"capability": "x-ignore-shared", "state": True},
            # The end is told, and need not be asked for again and again.
            {"capability": "events", "state": True},
        ]
    },
)


async def save_state(monitor: Monitor, state: Path) -> None:
    """Stops the machine for good and writes its state, without the memory, into a new file.

    The machine's memory must be a shared file. Raises OSError, and leaves no file then.
    """
    content = bytearray()
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:

        async def take() -> None:
            while chunk := await ours.recv(_CHUNK):
                content.extend(chunk)
                if len(content) > MAX_STATE:
                    raise OSError(errno.EFBIG, f"QEMU's state has more than {MAX_STATE} bytes")

        async def migrate() -> None:
            # While it runs, so that a restored one runs as soon as it is there; QEMU stops it for the last part, which
            # without the memory is all of it.
            await _migrate(monitor, "migrate", theirs)
            theirs.close()

        await together(take, migrate)
    write_new(state, content)


async def load_state(monitor: Monitor, state: Path) -> None:
    """Gives a machine that waits for it the state in this file; returns when the machine runs. Raises OSError.

    QEMU ends where it cannot make sense of the state, and says why on the console.
    """
    content = read_state(state)
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:

        async def give() -> None:
            unsent = memoryview(content)
            # A QEMU that does not take it says more by its monitor.
            with suppress(OSError):
                while unsent:
                    unsent = unsent[await ours.send(unsent) :]
                ours.shutdown(socket.SHUT_WR)

        async def migrate() -> None:
            await _migrate(monitor, "migrate-incoming", theirs)
            # From here on nobody reads what there may be beyond the state.
            theirs.close()

        await together(give, migrate)


async def _migrate(monitor: Monitor, command: str, channel: trio.socket.SocketType) -> None:
    """Returns when the migration is complete; raises OSError."""
    event = await monitor.converse(
        _CAPABILITIES,
        Command("getfd", {"fdname": _NAME}, descriptor=channel.fileno()),
        Command(command, {"uri": f"fd:{_NAME}"}),
        until=lambda said: _status(said) in ("completed", "failed", "cancelled"),
    )
    if _status(event) != "completed":
        reason = (await monitor.converse(Command("query-migrate"))).get("return", {})
        detail = reason.get("error-desc", "it does not say why") if isinstance(reason, dict) else "it does not say why"
        raise MonitorError(f"QEMU's {command} failed: {printable(str(detail)[:500].encode(errors='replace'))}")


def _status(said: Said) -> object:
    data = said.get("data")
    return data.get("status") if said.get("event") == "MIGRATION" and isinstance(data, dict) else None


def read_state(state: Path) -> bytes:
    """A saved state, whole; raises OSError, also for a file that is too large to be one."""
    with state.open("rb", buffering=0) as file:
        content = file.read(MAX_STATE + 1) or b""
    if len(content) > MAX_STATE:
        raise OSError(errno.EFBIG, f"{state} is no state of a machine: it has more than {MAX_STATE} bytes")
    return content


def write_new(path: Path, content: bytes | bytearray) -> None:
    """Writes a file that was not there; an error leaves none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
