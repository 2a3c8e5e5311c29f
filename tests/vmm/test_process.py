from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from boxlite.vmm.process import VmExit


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (VmExit(code=0), "exited with status 0"),
        (VmExit(code=125), "exited with status 125"),
        (VmExit(signal=signal.SIGKILL), "was killed by SIGKILL"),
        (VmExit(signal=40), "was killed by signal 40"),
        (VmExit(), "was killed because the process that watched it ended"),
    ],
)
def test_an_end_reads_as_a_sentence(how: VmExit, text: str) -> None:
    assert str(how) == text


def test_a_wait_status_is_a_code_or_a_signal() -> None:
    assert VmExit.from_status(_status_of(lambda: os._exit(0))) == VmExit(code=0)
    assert VmExit.from_status(_status_of(lambda: os._exit(255))) == VmExit(code=255)
    assert VmExit.from_status(_status_of(lambda: os.kill(os.getpid(), signal.SIGKILL))) == VmExit(signal=9)


def _status_of(end: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        end()
    return os.waitpid(pid, 0)[1]
