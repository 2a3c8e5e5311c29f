"""As much of QEMU's monitor as a script needs (QEMU Machine Protocol)."""

from __future__ import annotations

import json
from typing import Any

import trio

_CHUNK = 16 * 1024


class Monitor:
    """Sends commands, one after the other, and hears events."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._unread = b""

    async def greet(self) -> None:
        """Takes QEMU's greeting; commands are legal after it."""
        await self._hear("QMP")
        await self.execute("qmp_capabilities")

    async def execute(self, command: str, **arguments: object) -> None:
        """Returns when QEMU has answered; raises OSError where it refuses."""
        request = {"execute": command, "arguments": arguments}
        await self._stream.send_all(json.dumps(request).encode() + b"\n")
        answer = await self._hear("return", "error")
        if "error" in answer:
            raise OSError(f"QEMU refuses {command}: {answer['error']['desc']}")

    async def wait_migrated(self) -> None:
        """Returns when the migration under way is complete; raises OSError where it failed."""
        while True:
            said = await self._hear("event")
            status = said["data"]["status"] if said["event"] == "MIGRATION" else ""
            if status == "completed":
                return
            if status == "failed":
                raise OSError("QEMU's migration failed")

    async def _hear(self, *kinds: str) -> dict[str, Any]:
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                said: dict[str, Any] = json.loads(line)
                if any(kind in said for kind in kinds):
                    return said
                continue
            chunk = await self._stream.receive_some(_CHUNK)
            if not chunk:
                raise ConnectionResetError("QEMU has hung up")
            self._unread += chunk
