from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from boxlite.metrics.process import measure_process
from boxlite.vmm.engine import ProcessIdentity
from tests.metrics.meters import this_process


def test_processor_time_grows_with_work_and_is_in_seconds() -> None:
    """Law: what was used between two looks is what this process itself counts, as far as clock ticks tell."""
    before, own_before = measure_process(this_process()), time.process_time()
    while time.process_time() < own_before + 0.2:
        pass
    after, own_after = measure_process(this_process()), time.process_time()
    assert before is not None
    assert after is not None
    assert own_after - own_before == pytest.approx(after.cpu_seconds - before.cpu_seconds, abs=0.05)


def test_memory_is_the_resident_set_in_bytes() -> None:
    before = measure_process(this_process())
    held = bytearray(b"x") * (64 << 20)
    after = measure_process(this_process())
    assert before is not None
    assert after is not None
    assert after.memory_bytes - before.memory_bytes == pytest.approx(len(held), rel=0.1)


def test_another_process_of_the_same_number_is_not_measured() -> None:
    assert measure_process(attrs.evolve(this_process(), start_time=1)) is None
    assert measure_process(attrs.evolve(this_process(), boot_id="another")) is None
    assert measure_process(attrs.evolve(this_process(), pid=1 << 30)) is None


def test_a_dead_process_that_nobody_has_reaped_is_not_measured_and_no_name_confuses() -> None:
    """Its name, which it chooses itself, looks like the end of the name and a state."""
    rename = "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 (x) 9'); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", rename], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.readline()
    stat = Path(f"/proc/{child.pid}/stat").read_text()
    assert ") R 1 (x) 9)" in stat
    process = ProcessIdentity(child.pid, int(stat.rpartition(")")[2].split()[19]), this_process().boot_id)
    alive = measure_process(process)
    child.stdin.close()
    child.stdout.read()
    deadline = time.monotonic() + 20
    while measure_process(process) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    dead = measure_process(process)
    child.wait()
    child.stdout.close()
    assert alive is not None
    assert dead is None
