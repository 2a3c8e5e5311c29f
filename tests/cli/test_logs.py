from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from boxlite import BoxState
from boxlite.cli.logs import ConsoleFile, last_lines
from tests.cli.conftest import OpenProcess, read_to_end
from tests.cli.homes import box, call, fill, this_process
from vmm_ffi.spec import CONSOLE_BYTES


def make_console(home: Path, name: str, text: bytes) -> Path:
    directory = home / "boxes" / name
    directory.mkdir(parents=True)
    (directory / "console.log").write_bytes(text)
    return directory / "console.log"


def test_the_console_is_printed_without_what_could_drive_a_terminal(tmp_path: Path) -> None:
    make_console(tmp_path, "web", b"\x1b]0;owned\x07one\r\ntwo\xff\x1b[2J\nthree")
    fill(tmp_path, box("web", BoxState.STOPPED))
    assert call("logs", "--home", str(tmp_path), "web").stdout == "one\ntwo\N{REPLACEMENT CHARACTER}\nthree"
    assert call("logs", "-n", "2", "--home", str(tmp_path), "web").stdout.startswith("two")
    document = json.loads(call("logs", "--json", "-n", "1", "--home", str(tmp_path), "web").stdout)
    assert document == {"name": "web", "console": "three"}


def test_nothing_but_a_file_of_the_box_is_read(tmp_path: Path) -> None:
    """Neither what a link leads to, nor a pipe, whose opening would wait for a writer."""
    console = make_console(tmp_path, "web", b"")
    fill(tmp_path, box("web", BoxState.STOPPED))
    secret = tmp_path / "secret"
    secret.write_text("of another file")
    for put in (partial(console.symlink_to, secret), partial(os.mkfifo, console), console.mkdir):
        console.unlink()
        put()
        ended = call("logs", "--home", str(tmp_path), "web")
        assert (ended.status, ended.stdout) == (125, "")
        assert str(console) in ended.stderr


def test_of_a_huge_console_the_end_is_read(tmp_path: Path) -> None:
    console = make_console(tmp_path, "web", b"")
    with console.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b"the end\n")
    read = ConsoleFile(console).read_on()
    assert len(read) == 2 * CONSOLE_BYTES
    assert read.endswith(b"\0the end\n")


def test_a_box_that_never_ran_has_printed_nothing(tmp_path: Path) -> None:
    fill(tmp_path, box("web", BoxState.CONFIGURED))
    ended = call("logs", "-f", "--home", str(tmp_path), "web")
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")


def test_what_has_no_console_is_told(tmp_path: Path) -> None:
    attended = box("attended", BoxState.RUNNING, this_process())
    fill(tmp_path, attrs.evolve(attended, options=attrs.evolve(attended.options, detached=False)))
    assert "only detached boxes" in call("logs", "--home", str(tmp_path), "attended").stderr
    ended = call("logs", "--home", str(tmp_path), "nobody")
    assert (ended.status, ended.stderr) == (125, "boxlite: box nobody: there is no such box\n")


async def test_following_prints_what_comes_and_ends_with_the_machine(open_process: OpenProcess, tmp_path: Path) -> None:
    console = make_console(tmp_path, "web", b"first\n")
    machine = await trio.lowlevel.open_process(["sleep", "1000"])
    try:
        stat = (await trio.Path(f"/proc/{machine.pid}/stat").read_text()).rpartition(")")[2].split()
        process = attrs.evolve(this_process(), pid=machine.pid, start_time=int(stat[19]))
        fill(tmp_path, box("web", BoxState.RUNNING, process))
        async with open_process("-m", "boxlite", "logs", "-f", "--home", str(tmp_path), "web") as following:
            assert following.stdout is not None
            assert await following.stdout.receive_some() == b"first\n"
            with console.open("ab") as file:
                file.write(b"second\n")
            assert await following.stdout.receive_some() == b"second\n"
            with console.open("ab") as file:
                file.write(b"the last")
            machine.kill()
            await machine.wait()
            assert await read_to_end(following.stdout) == b"the last"
            assert await read_to_end(following.stderr) == b""
        assert following.returncode == 0
    finally:
        machine.kill()
        with trio.move_on_after(10, shield=True):
            await machine.wait()


def test_a_console_that_was_begun_again_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    console = ConsoleFile(path)
    assert console.read_on() == b""
    path.write_bytes(b"one")
    assert (console.read_on(), console.read_on()) == (b"one", b"")
    path.write_bytes(b"2")
    assert console.read_on() == b"2"
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"longer than before")
    fresh.rename(path)
    assert console.read_on() == b"longer than before"


@given(st.text(alphabet="ab\n"), st.integers(0, 20))
def test_the_last_lines_are_whole_and_as_many_as_asked_for(text: str, count: int) -> None:
    last = last_lines(text, count)
    assert text.endswith(last)
    assert len(last.splitlines()) == min(count, len(text.splitlines()))
    assert last_lines(text, None) == text


def test_a_negative_number_of_lines_is_refused() -> None:
    with pytest.raises(Exception, match="-1"):
        raise call("logs", "-n", "-1", "web").error or AssertionError
