"""What every one of these programs measures, and how it says so. Runs with the standard library alone."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from benchmarks.processes import unmapped_bytes

MEMORY_MIB = 512
EXECUTIONS = int(os.environ.get("LAB_EXECUTIONS", "20"))
"""Of `true`."""
STREAM_BYTES = int(os.environ.get("LAB_STREAM_BYTES", str(2 << 20)))
STREAM = ["dd", "if=/dev/zero", "bs=65536", f"count={STREAM_BYTES // 65536}"]

FIRST, SECOND, EXEC, RATE, CHUNK, STOP = "first_s", "second_s", "exec_s", "stream_mb_s", "chunk_bytes", "stop_s"
MACHINE, CLIENT = "machine_mib", "client_mib"


def emit(name: str, value: float) -> None:
    """One figure: a line that no other output of the program looks like."""
    sys.stdout.write(json.dumps({"figure": name, "value": round(value, 4)}) + "\n")
    sys.stdout.flush()


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def emit(self, name: str) -> None:
        """Says how long it has been."""
        emit(name, time.perf_counter() - self._began)


class Stream:
    """Counts pieces of output as they arrive."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._bytes = self._pieces = 0

    def take(self, piece: int) -> None:
        """One piece has come, of that many bytes."""
        self._bytes += piece
        self._pieces += 1

    def emit(self) -> None:
        """Says how fast it was and how large the pieces were; raises ValueError where some are missing."""
        seconds = time.perf_counter() - self._began
        if self._bytes != STREAM_BYTES:
            raise ValueError(f"{self._bytes} bytes came of {STREAM_BYTES}")
        emit(RATE, self._bytes / seconds / 1e6)
        emit(CHUNK, self._bytes / self._pieces)


def emit_memory() -> None:
    """Resident memory of the largest process that this one has brought about, and of this one.

    A file in memory without a name counts as well, mapped or not.
    """
    emit(MACHINE, max((_resident_mib(pid) for pid in _others()), default=0.0))
    emit(CLIENT, _resident_mib(os.getpid()))


def _others() -> list[int]:
    """Every process that is no kernel thread, not this one, and not above it: what is detached is found too."""
    above = set()
    pid = os.getpid()
    while pid > 0:
        above.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) not in above]


def _resident_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0  # It has ended.
    mapped = sum(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024
    return mapped + unmapped_bytes(pid) / (1 << 20)
