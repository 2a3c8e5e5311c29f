"""What tells one simulated guest from another: its names, and its random pool."""

from __future__ import annotations

import random
import uuid
from typing import final

import attrs


@attrs.frozen
class IdentityState:
    """What a saved machine's memory holds of it."""

    pool: bytes
    hostname: str
    machine_id: str
    boot_id: str | None


@final
class Identity:
    """A guest's own. Its random numbers follow from what its pool was fed: two that were fed the same are twins."""

    def __init__(self, seed: bytes) -> None:
        self._random = random.Random(seed)
        self._hostname = ""
        self._machine_id = ""
        self._boot_id: str | None = None

    def reseed(self, entropy: bytes) -> None:
        """Feeds the pool."""
        self._random = random.Random(self._random.randbytes(32) + entropy)

    def name(self, hostname: str, machine_id: str) -> None:
        """Sets the names."""
        self._hostname, self._machine_id = hostname, machine_id

    def save(self) -> IdentityState:
        """What goes into a saved machine."""
        return IdentityState(self._random.randbytes(32), self._hostname, self._machine_id, self._boot_id)

    def load(self, state: IdentityState) -> None:
        """Takes the identity of a saved machine."""
        self._hostname, self._machine_id, self._boot_id = state.hostname, state.machine_id, state.boot_id
        self._random = random.Random(state.pool)

    def read(self, path: str) -> str | None:
        """What the file says; None where there is none. The boot id is made when it is first read, as by Linux."""
        match path:
            case "/etc/hostname":
                return f"{self._hostname}\n"
            case "/etc/machine-id":
                return f"{self._machine_id}\n"
            case "/proc/sys/kernel/random/boot_id":
                self._boot_id = self._boot_id or self._uuid()
                return f"{self._boot_id}\n"
            case "/proc/sys/kernel/random/uuid":
                return f"{self._uuid()}\n"
            case _:
                return None

    def _uuid(self) -> str:
        return str(uuid.UUID(bytes=self._random.randbytes(16), version=4))
