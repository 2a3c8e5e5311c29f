"""What libkrun has saved is kept if it is what it should be; here, what saves is no libkrun."""

from __future__ import annotations

import os
import socket
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from boxlite.vmm.engine import SnapshotDamaged
from boxlite.vmm.migration import MAX_STATE
from boxlite.vmm.saving import STATE_FILES, Saving, unpack_state

MEMORY = bytes(8192)
ANSWER = b"OK saved (8192 bytes, 1 regions, paused)\n"

Spoil = Callable[[Path], object]


def save(directory: Path) -> None:
    """As libkrun does."""
    directory.mkdir()
    (directory / "checkpoint.bin").write_bytes(b"processors and devices")
    (directory / "manifest.bin").write_bytes(b"regions")
    (directory / "memory.bin").write_bytes(MEMORY)


@pytest.fixture
def saving(tmp_path: Path, sockets: Path) -> Saving:
    (tmp_path / "memory.saving").mkdir()
    (tmp_path / "memory").write_bytes(b"")
    return Saving(sockets / "qmp", tmp_path / "memory.saving", tmp_path / "memory", len(MEMORY))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@asynccontextmanager
async def libkrun(saving: Saving, answer: bytes = ANSWER, spoil: Spoil = lambda saved: None) -> AsyncIterator[None]:
    """Answers one command, and leaves what it saved in another state than it should be."""
    with trio.fail_after(10), trio.socket.socket(socket.AF_UNIX) as listening:
        await listening.bind(os.fspath(saving.socket))
        listening.listen()
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                connection, _ = await listening.accept()
                with connection:
                    command = await connection.recv(4096)
                    assert command == b"SAVE %b/saved\n" % os.fsencode(saving.directory)
                    save(saving.directory / "saved")
                    spoil(saving.directory / "saved")
                    with trio.move_on_after(5):
                        await connection.send(answer)

            nursery.start_soon(serve)
            yield


async def test_a_machine_is_saved_by_a_command_and_restored_from_the_same(
    saving: Saving, state: Path, tmp_path: Path
) -> None:
    async with libkrun(saving):
        await saving.save(state)
    assert saving.memory.read_bytes() == MEMORY
    assert {path.stat().st_mode & 0o777 for path in (saving.memory, state)} == {0o600}
    unpack_state(state, tmp_path / "restored")
    restored = {path.name: path.read_bytes() for path in (tmp_path / "restored").iterdir()}
    assert restored == {"checkpoint.bin": b"processors and devices", "manifest.bin": b"regions"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"ERR EIO checkpoint failed: no room\n", "ERR EIO checkpoint failed: no room"),
        (b"", "it hung up"),
        (b"OK", "OK"),
        (b"\x1b[31mred" * 900, "red"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_and_leaves_no_state(
    saving: Saving, state: Path, answer: bytes, said: str
) -> None:
    async with libkrun(saving, answer):
        with pytest.raises(OSError, match="did not save the machine") as caught:
            await saving.save(state)
    assert said in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not await trio.Path(state).exists()


def _replace(name: str, make: Callable[[Path], object]) -> Spoil:
    def spoil(saved: Path) -> None:
        (saved / name).unlink()
        make(saved / name)

    return spoil


def _hide(saved: Path) -> None:
    saved.rename(saved.with_name("elsewhere"))
    saved.symlink_to("elsewhere")


def _long(path: Path) -> None:
    path.touch()
    os.truncate(path, len(MEMORY) + 1)


def _long_together(saved: Path) -> None:
    """Each is short enough, and both could not be read again."""
    for name in STATE_FILES:
        os.truncate(saved / name, MAX_STATE // 2)


@pytest.mark.parametrize(
    "spoil",
    [
        _hide,
        *(_replace(name, lambda path: path.symlink_to("/etc/hostname")) for name in ("memory.bin", *STATE_FILES)),
        *(_replace(name, os.mkfifo) for name in ("memory.bin",)),
        *(_replace(name, lambda path: None) for name in ("memory.bin", *STATE_FILES)),
        _replace("memory.bin", _long),
        _replace("memory.bin", lambda path: path.write_bytes(MEMORY[1:])),
        lambda saved: os.link(saved / "memory.bin", saved / "kept"),
        lambda saved: os.truncate(saved / "checkpoint.bin", MAX_STATE + 1),
        _long_together,
    ],
)
async def test_what_an_attacker_leaves_in_the_place_of_a_file_is_not_followed(
    saving: Saving, state: Path, spoil: Spoil
) -> None:
    async with libkrun(saving, spoil=spoil):
        with pytest.raises(OSError, match=r".+"):
            await saving.save(state)
    assert not await trio.Path(state).exists()


async def test_a_pipe_in_the_place_of_the_state_is_not_waited_for(saving: Saving, state: Path, tmp_path: Path) -> None:
    async with libkrun(saving, spoil=_replace("checkpoint.bin", os.mkfifo)):
        await saving.save(state)
    unpack_state(state, tmp_path / "restored")
    assert (tmp_path / "restored" / "checkpoint.bin").read_bytes() == b""


@pytest.mark.parametrize(("said", "cause"), [("(os error 28)", 28), ("(os error 122)", 122), ("(os error x)", 5)])
async def test_the_error_has_the_number_of_the_system_s_own(saving: Saving, state: Path, said: str, cause: int) -> None:
    """By which a full disk is told from everything else."""
    async with libkrun(saving, f"ERR EIO capture VM: guest-memory dump: no {said}\n".encode()):
        with pytest.raises(OSError, match="did not save") as caught:
            await saving.save(state)
    assert caught.value.errno == cause


async def test_where_nobody_listens_is_an_error(saving: Saving, state: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await saving.save(state)


def test_the_user_of_the_machine_reads_what_it_is_restored_from_whatever_the_host_s_umask(tmp_path: Path) -> None:
    """Which is often 077 where root works, and that user is not root."""
    with zipfile.ZipFile(tmp_path / "state", "w") as members:
        for name in STATE_FILES:
            members.writestr(name, b"content")
    before = os.umask(0o077)
    try:
        unpack_state(tmp_path / "state", tmp_path / "restored")
    finally:
        os.umask(before)
    assert (tmp_path / "restored").stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "restored").iterdir()} == {0o444}


@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_state_is_whole_or_an_error_that_leaves_nothing(noise: bytes, cut: int) -> None:
    """Whether it is noise, or something is cut off or changed."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        whole = directory / "whole"
        with zipfile.ZipFile(whole, "w") as members:
            for member in STATE_FILES:
                members.writestr(member, b"content")
        content = whole.read_bytes()
        for number, damaged in enumerate((noise, content[:cut], content[:cut] + noise + content[cut + len(noise) :])):
            state, restored = directory / f"state-{number}", directory / f"restored-{number}"
            state.write_bytes(damaged)
            with suppress(SnapshotDamaged):
                unpack_state(state, restored)
            if restored.exists():
                found = {path.name: path.read_bytes() for path in restored.iterdir()}
                assert found == dict.fromkeys(STATE_FILES, b"content")


def test_a_state_of_other_files_is_none(state: Path, tmp_path: Path) -> None:
    """Above all of one whose name leads elsewhere, or which is much larger than what it is packed in."""
    for members in (["../x", "manifest.bin"], ["checkpoint.bin"], ["checkpoint.bin", "manifest.bin", "more"]):
        with zipfile.ZipFile(state, "w") as archive:
            for member in members:
                archive.writestr(member, b"")
        with pytest.raises(SnapshotDamaged, match="damaged"):
            unpack_state(state, tmp_path / "restored")
    with zipfile.ZipFile(state, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("checkpoint.bin", bytes(MAX_STATE + 1))
        archive.writestr("manifest.bin", b"")
    with pytest.raises(SnapshotDamaged, match="damaged"):
        unpack_state(state, tmp_path / "restored")
    assert not (tmp_path / "x").exists()
