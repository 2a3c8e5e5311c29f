"""The newest bytes of a stream that was sent, for when the other end has not got them all. Pure."""

from __future__ import annotations


class Replay:
    """Keeps the newest `capacity` bytes; offsets count from the stream's beginning, which may have been sent before."""

    def __init__(self, capacity: int, start: int = 0) -> None:
        self._capacity = capacity
        self._kept = bytearray()
        self.end = start

    @property
    def start(self) -> int:
        """Offset of the oldest byte that is kept."""
        return self.end - len(self._kept)

    def append(self, data: bytes) -> None:
        """The stream's next bytes were sent."""
        self._kept += data
        self.end += len(data)
        del self._kept[: max(0, len(self._kept) - self._capacity)]

    def since(self, offset: int) -> bytes:
        """What was sent from `offset` on; raises ValueError where that is not kept, or not sent yet."""
        if not self.start <= offset <= self.end:
            raise ValueError(f"bytes {self.start} to {self.end} are kept, and those from {offset} on are asked for")
        return bytes(self._kept[offset - self.start :])
