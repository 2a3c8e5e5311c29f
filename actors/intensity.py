"""How many crashes are too many: pure arithmetic."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class RestartWindow(Generic[T]):
    """Remembers the crashes of the last `period` seconds, and allows `intensity` of them, None being no limit."""

    def __init__(self, intensity: int | None, period: float) -> None:
        if (intensity is not None and intensity < 0) or not period > 0:
            raise ValueError(f"intensity must be 0 or more and period above 0, not {intensity} and {period}")
        self.intensity = intensity
        self.period = period
        self._crashes: deque[tuple[float, T]] = deque()

    def admits(self, now: float, crash: T) -> bool:
        """Count a crash at the time `now`, and say whether a restart is still allowed."""
        if self.intensity is None:
            return True
        self._crashes.append((now, crash))
        while self._crashes[0][0] < now - self.period:
            self._crashes.popleft()
        return len(self._crashes) <= self.intensity

    @property
    def crashes(self) -> list[T]:
        """Those that count at present, the oldest first."""
        return [crash for _, crash in self._crashes]
