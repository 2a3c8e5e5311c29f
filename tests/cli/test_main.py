"""The command as a process: what it prints where, and its status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import attrs
import pytest

from boxlite.cli.main import main


@attrs.frozen
class Ended:
    status: object
    stdout: str
    stderr: str


Call: TypeAlias = Callable[..., Ended]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Calls the entry point with a home of its own; a process would do the same, only slower."""
    monkeypatch.setenv("BOXLITE_HOME", str(tmp_path))

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["boxlite", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return Ended(end.value.code, *capfd.readouterr())

    return call


def process(*arguments: str, stdout: int = subprocess.PIPE, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "boxlite", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


def test_help_and_version_need_no_machine(call: Call) -> None:
    help = call("run", "--help")
    assert (help.status, help.stderr) == (0, "")
    assert "--workdir" in help.stdout
    assert call("--version").stdout.startswith("boxlite, version ")


def test_a_wrong_use_is_told_on_stderr_with_125(call: Call) -> None:
    ended = call("run", "--bogus", "builtin/python")
    assert (ended.status, ended.stdout) == (125, "")
    assert "--bogus" in ended.stderr
    assert "boxlite run --help" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Ubuntu:24.04"], "names are in small letters"),
        (["--pull", "never", "ubuntu:24.04"], "`boxlite pull` brings it in"),
        (["builtin/nonesuch"], "there is no image builtin/nonesuch"),
        (["oci:/nonexistent"], "/nonexistent"),
        (["--memory", "1m", "builtin/python"], "memory_mib must be at least"),
        (["--memory", "lots", "builtin/python"], "is no size"),
        (["--cpus", "0", "builtin/python"], "cpus must be"),
        (["--name", "../x", "builtin/python"], "a box's name has"),
        (["--engine", "warp", "builtin/python"], "the engine is 'auto'"),
        (["--kernel", "/nonexistent", "builtin/python"], "/nonexistent is not a file"),
        (["--timeout", "nan", "builtin/python"], "is no time in seconds"),
        (["--env", "=x", "builtin/python"], "names no variable"),
        (["--tty", "--json", "builtin/python"], "exclude each other"),
    ],
)
def test_bad_input_is_refused_before_any_boot_with_words_and_125(
    arguments: list[str], message: str, call: Call
) -> None:
    ended = call("run", *arguments)
    assert (ended.status, ended.stdout) == (125, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_terminal_needs_a_terminal() -> None:
    """In docker's words."""
    done = process("run", "-it", "builtin/python")
    assert (done.returncode, done.stdout) == (125, "")
    assert "the input device is not a TTY" in done.stderr


def test_a_home_that_cannot_be_written_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = call("run", "--home", str(tmp_path / "file"), "builtin/python")
    assert ended.status == 125
    assert "cannot be written" in ended.stderr


def test_with_json_an_error_is_an_object_on_stdout_and_a_line_on_stderr(call: Call) -> None:
    ended = call("run", "--json", "Nonesuch")
    assert ended.status == 125
    assert ended.stdout.startswith('{"exit_code": 125, "errors": [{"type": "InvalidReference"')
    assert ended.stderr.startswith("boxlite: 'Nonesuch' does not name an image")


def test_a_reader_that_left_ends_boxlite_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = process("doctor", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_told_without_a_traceback(unbuffered: str) -> None:
    """Once, and whether the interpreter buffers it or not."""
    with open("/dev/full", "wb") as full:
        done = process("--version", stdout=full.fileno(), PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (125, "boxlite: [Errno 28] No space left on device\n")


def test_a_closed_stdout_is_like_one_that_goes_nowhere() -> None:
    done = subprocess.run(["sh", "-c", f"exec {sys.executable} -m boxlite --version >&-"], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("nowhere", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("arguments", ["template build builtin/nope", "run --nope"])
def test_where_stderr_takes_nothing_the_status_tells_of_the_failure(
    arguments: str, nowhere: str, tmp_path: Path
) -> None:
    command = f"exec {sys.executable} -m boxlite {arguments} {nowhere}"
    done = subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, env={**os.environ, "BOXLITE_HOME": str(tmp_path)}
    )
    assert (done.returncode, done.stdout) == (125, b"")


def test_shells_can_complete_options() -> None:
    """click's protocol for bash: the words so far, and the index of the one to complete."""
    done = process("--", _BOXLITE_COMPLETE="bash_complete", COMP_WORDS="boxlite run --ent", COMP_CWORD="2")
    assert done.stdout == "plain,--entrypoint\n"


def test_colours_are_for_terminals_and_not_where_the_user_wants_none() -> None:
    """https://no-color.org"""
    main, terminal = os.openpty()
    told = {}
    for colour, variables in ((True, {}), (False, {"NO_COLOR": "1"})):
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        done = subprocess.run(
            [sys.executable, "-m", "boxlite", "run", "Nonesuch"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=terminal,
            env={**environment, **variables},
        )
        assert done.returncode == 125
        told[colour] = os.read(main, 4096)
    os.close(terminal)
    os.close(main)
    assert b"\x1b[31m" in told[True]
    assert b"\x1b" not in told[False]
    assert b"does not name an image" in told[False]
