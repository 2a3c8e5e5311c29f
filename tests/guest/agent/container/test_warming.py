"""What is read, and what is executed, before a machine is saved."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest.agent.container.warming import EXITS, MAX_FILE, nothing, read_within


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    yield descriptor
    os.close(descriptor)


def test_a_file_is_read_wherever_links_lead_inside(tmp_path: Path, root: int) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/real").write_bytes(b"12345")
    (tmp_path / "bin").symlink_to("lib/../lib")
    (tmp_path / "lib/sh").symlink_to("/lib/real")
    (tmp_path / "lib/up").symlink_to("../../../../lib/real")
    assert [read_within(root, path) for path in ("/lib/real", "bin/sh", "/bin/up")] == [5, 5, 5]


def test_of_a_long_file_the_beginning_is_read(tmp_path: Path, root: int) -> None:
    with (tmp_path / "long").open("wb") as file:
        file.truncate(1 << 40)
    assert read_within(root, "long") == MAX_FILE


def test_what_is_no_regular_file_is_not_read_and_blocks_nobody(tmp_path: Path, root: int) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    assert read_within(root, "pipe") == 0
    assert read_within(root, "directory") == 0
    (tmp_path / "loop").symlink_to("loop")
    for path in ("absent", "loop"):
        with pytest.raises(OSError, match=path):
            read_within(root, path)


@pytest.mark.parametrize("path", ["/proc/sys/kernel/random/boot_id", "/proc/self/exe", "/dev/null", "/proc/self/fd/0"])
def test_no_other_file_system_is_looked_into(path: str) -> None:
    """The first to read the boot id makes it up, and a template's would be that of all its clones."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with pytest.raises(OSError, match=path):
            read_within(root, path)
    finally:
        os.close(root)


def test_the_program_that_does_nothing_ends_well() -> None:
    descriptor = os.memfd_create("nothing")
    os.write(descriptor, nothing(*EXITS[os.uname().machine]))
    child = subprocess.run([f"/proc/self/fd/{descriptor}"], pass_fds=[descriptor], capture_output=True, check=False)
    assert (child.returncode, child.stdout, child.stderr) == (0, b"", b"")
    os.close(descriptor)
