"""The lock of a home: one holder, known by name, and none that outlives its process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from boxlite.errors import DiskError, HomeInUse
from boxlite.runtime.lock import lock_home

HOLDER = """
import sys, time
from pathlib import Path
from boxlite.runtime.lock import lock_home
with lock_home(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(1000)
"""


def test_the_second_one_hears_who_the_first_one_is_and_what_to_do(tmp_path: Path) -> None:
    with lock_home(tmp_path):
        with pytest.raises(HomeInUse) as caught, lock_home(tmp_path):
            pass
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    text = str(caught.value)
    for part in (str(tmp_path), f"process {os.getpid()} (", "since 20", "another home", "ephemeral=True"):
        assert part in text


def test_the_lock_is_free_after_the_block_also_where_it_raised(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock_home(tmp_path):
            raise ZeroDivisionError


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    """Its text stays, and harms nobody."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder, holder.stdout:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(HomeInUse, match=f"process {holder.pid} "), lock_home(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert str(holder.pid) in (tmp_path / "lock").read_text()
    with lock_home(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == ""


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b'{"pid": "x", "command": "c", "since": 1}',
        b'{"pid": 1, "command": "c", "since": 1e300}',
        b"[" * 4096,
    ],
)
def test_a_text_that_names_nobody_names_another_process(tmp_path: Path, text: bytes) -> None:
    with lock_home(tmp_path):
        (tmp_path / "lock").write_bytes(text)
        with pytest.raises(HomeInUse, match="in use by another process: "), lock_home(tmp_path):
            pass


def test_a_holder_s_command_cannot_reach_the_terminal(tmp_path: Path) -> None:
    """Whoever may write the lock, or chose the command line, might have put escape sequences there."""
    with lock_home(tmp_path):
        (tmp_path / "lock").write_text('{"pid": 1, "command": "evil\\n\\u001b[2J\\u202e%s", "since": 1}' % ("x" * 1000))
        with pytest.raises(HomeInUse) as caught, lock_home(tmp_path):
            pass
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_a_lock_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("elsewhere")
    with pytest.raises(DiskError, match="lock"), lock_home(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_home(tmp_path: Path) -> None:
    """As multiprocessing forks them: it shares the lock's descriptor, and lives on."""
    with suppress(RuntimeError), lock_home(tmp_path):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        raise RuntimeError("the block fails")
    try:
        with lock_home(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
