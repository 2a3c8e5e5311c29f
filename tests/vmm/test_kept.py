"""What a runtime finds in a kept machine's directory, whatever has happened to it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio

from boxlite.vmm.kept import put_down, read_exit, read_record, remove_sockets, watch
from boxlite.vmm.process import VmExit
from tests.vmm.processes import open_files
from vmm_ffi.spec import (
    CONSOLE_BYTES,
    CONSOLE_FILE,
    EXIT_FILE,
    VM_FILE,
    ExitNote,
    ProcessIdentity,
    VmRecord,
    encode_file,
    identity_of,
)

GONE = ProcessIdentity(2**22, 1, "an earlier boot")
RECORD = VmRecord(GONE, attrs.evolve(GONE, start_time=2), "/nowhere/sockets/a")


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.unlink()
    match how:
        case "missing":
            return
        case "empty":
            path.touch()
        case "cut off":
            path.write_bytes(content[: len(content) // 2])
        case "zeros":
            path.write_bytes(bytes(len(content)))
        case "huge":
            path.write_bytes(content + b" " * (1 << 20) + b"x")
        case "a pipe":
            os.mkfifo(path)
        case "a directory":
            path.mkdir()
        case "a link":
            (path.parent / "elsewhere").write_bytes(content)
            path.symlink_to(path.parent / "elsewhere")
        case "unreadable":
            path.symlink_to("/proc/self/mem")


DAMAGES = ["missing", "empty", "cut off", "zeros", "huge", "a pipe", "a directory", "a link", "unreadable"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, how: str) -> None:
    (tmp_path / VM_FILE).write_bytes(encode_file(RECORD))
    (tmp_path / EXIT_FILE).write_bytes(encode_file(ExitNote(GONE, 256)))
    assert read_record(tmp_path) == RECORD
    assert read_exit(tmp_path, GONE) == VmExit(code=1)
    damage(tmp_path / VM_FILE, how)
    damage(tmp_path / EXIT_FILE, how)
    assert read_record(tmp_path) is None
    assert read_exit(tmp_path, GONE) is None


def test_the_exit_of_another_machine_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / EXIT_FILE).write_bytes(encode_file(ExitNote(GONE, 0)))
    assert read_exit(tmp_path, attrs.evolve(GONE, start_time=7)) is None


@pytest.mark.parametrize("status", [0x7F, 0x137F, 0xFFFF])
def test_a_status_that_no_ended_process_has_says_nothing(tmp_path: Path, status: int) -> None:
    """Stopped, continued: waitpid(2) has them, ends do not."""
    note = encode_file(ExitNote(GONE, 0)).replace(b'"status": 0', b'"status": %d' % status)
    (tmp_path / EXIT_FILE).write_bytes(note)
    assert read_exit(tmp_path, GONE) is None


async def test_the_console_of_a_kept_machine_is_what_its_file_ends_with(tmp_path: Path) -> None:
    (tmp_path / CONSOLE_FILE).write_bytes(b"x" * 2 * CONSOLE_BYTES + b"\n\x1b[31mlast\nwords\n")
    with watch(RECORD, tmp_path) as process:
        assert process.console.tail(2) == "last\nwords"
        assert len(process.console.raw()) == CONSOLE_BYTES
        (tmp_path / CONSOLE_FILE).unlink()
        assert process.console.tail() == ""


async def test_a_machine_that_has_ended_is_waited_for_at_once(tmp_path: Path) -> None:
    """Without an exit file, nobody knows how it ended."""
    with watch(RECORD, tmp_path) as process, trio.fail_after(5):
        assert process.ending
        assert await process.wait() == VmExit()
        assert process.exit == VmExit()
    with pytest.raises(ValueError, match="has no keeper"), watch(attrs.evolve(RECORD, keeper=None), tmp_path):
        pass


@pytest.fixture
def sleeper() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "60"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def here(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    identity = identity_of(process.pid)
    assert identity is not None
    return identity


async def test_putting_down_ends_what_is_left_and_spares_who_has_the_numbers_now(
    tmp_path: Path, sleeper: Callable[[], subprocess.Popen[bytes]]
) -> None:
    before = open_files()
    machine, keeper, bystander = sleeper(), sleeper(), sleeper()
    with trio.fail_after(10):
        assert await put_down(VmRecord(here(machine), here(keeper), "/a"), tmp_path, 5) is None
        former = attrs.evolve(here(bystander), start_time=1)
        assert await put_down(VmRecord(former, None, "/a"), tmp_path, 5) is None
    assert machine.wait(5) == -9
    assert keeper.wait(5) == -9
    assert bystander.poll() is None
    assert open_files() == before


def test_what_an_attacker_leaves_beside_the_sockets_goes_with_their_directory(tmp_path: Path) -> None:
    """In a directory that is called as those of machines are; nothing is followed out of it."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    directory = tmp_path / "0123456789ab"
    (directory / "folder").mkdir(parents=True)
    (directory / "agent").symlink_to(precious / "file")
    (directory / "folder" / "link").symlink_to(precious)
    remove_sockets(str(directory))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (precious / "file").exists()


def test_only_sockets_and_their_directory_are_removed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / name / "agent"))
    (tmp_path / "a" / "qmp").write_text("precious")
    (tmp_path / "a" / "ready").symlink_to(tmp_path / "a" / "agent")
    (tmp_path / "c" / "agent").mkdir()
    for name in ("a", "b", "c", "nowhere"):
        remove_sockets(str(tmp_path / name))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "a",
        "a/qmp",
        "a/ready",
        "c",
        "c/agent",
    ]
