"""A command is checked on the host, before anything is started for it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.boxes.command import MAX_ARGUMENT, MAX_ARGUMENTS, MAX_TIMEOUT, Command, TtySize, make_command
from boxlite.boxes.options import BoxOptions
from boxlite.errors import ArgumentsTooLong, InvalidCommand
from boxlite.images.config import ImageConfig
from boxlite.images.reference import BuiltinReference


def command(argv: Any, **options: Any) -> Command:
    defaults: dict[str, Any] = dict.fromkeys(("env", "cwd", "user", "tty", "timeout"))
    return make_command(argv, **defaults | {"merge_stderr": False} | options)


def box(**options: Any) -> BoxOptions:
    return BoxOptions(BuiltinReference("python"), **options)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1).filter(lambda a: a[0]))
def test_text_becomes_the_bytes_of_a_file_name(argv: list[str]) -> None:
    assert command(argv).argv == tuple(argument.encode() for argument in argv)


def test_bytes_and_paths_are_arguments_too() -> None:
    assert command([b"\xff", PurePosixPath("/a b"), "\udcff"]).argv == (b"\xff", b"/a b", b"\xff")


@pytest.mark.parametrize("argv", [[], [""], ["a", "b\0c"], "true", b"true", ["a", 1], [None], ["\ud800"]])
def test_what_no_box_could_run_is_refused(argv: Any) -> None:
    with pytest.raises(InvalidCommand):
        command(argv)


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "x\0"}, {"A\0": "x"}, {"A": 1}])
def test_variables_that_no_environment_can_hold_are_refused(env: Any) -> None:
    with pytest.raises(InvalidCommand):
        command(["true"], env=env)


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"user": "a\nb"}, {"user": "\udcff"}, {"cwd": "a\0"}],
)
def test_impossible_options_are_refused(options: Any) -> None:
    with pytest.raises(InvalidCommand):
        command(["true"], **options)


def test_what_linux_would_refuse_is_refused_before_it_travels() -> None:
    """Limits of execve(2): one argument, and all together with the environment."""
    command(["x", "y" * (MAX_ARGUMENT - 1)])
    with pytest.raises(ArgumentsTooLong, match="pass large data as input"):
        command(["x", "y" * MAX_ARGUMENT])
    piece = "y" * (MAX_ARGUMENT - 1)
    with pytest.raises(ArgumentsTooLong, match=str(MAX_ARGUMENTS)):
        command(["x", *[piece] * (MAX_ARGUMENTS // MAX_ARGUMENT)])
    with pytest.raises(ArgumentsTooLong):
        command(["x"], env={f"V{number}": piece[:-10] for number in range(50)})


def test_the_command_wins_over_the_box_and_the_box_over_the_image() -> None:
    config = ImageConfig(env=("A=image", "B=image", "C=image"), user="image", working_dir="/srv")
    resolved = command(["x"], env={"C": "command"}, cwd="sub").resolve(config, box(env={"B": "box", "C": "box"}))
    assert resolved.env == {b"A": b"image", b"B": b"box", b"C": b"command"}
    assert (resolved.cwd, resolved.user) == (b"/srv/sub", "image")


@pytest.mark.parametrize(
    "config", [ImageConfig(user="\ud800"), ImageConfig(working_dir="/\ud800"), ImageConfig(env=("A=\0",))]
)
def test_what_an_image_says_is_checked_like_what_the_caller_says(config: ImageConfig) -> None:
    with pytest.raises(InvalidCommand):
        command(["x"]).resolve(config, box())


@pytest.mark.parametrize("timeout", [1e9, 1e300, float("inf")])
def test_a_timeout_beyond_every_clock_is_a_very_long_one(timeout: float) -> None:
    assert command(["true"], timeout=timeout).timeout == MAX_TIMEOUT


def test_a_timeout_of_another_numeric_type_is_taken_as_seconds() -> None:
    """What only fails beside the box's clock would end the whole box."""
    assert type(command(["true"], timeout=Decimal(3)).timeout) is float


@pytest.mark.parametrize(
    ("working_dir", "cwd", "expected"),
    [("", None, b"/"), ("/srv", None, b"/srv"), ("/srv", "/x", b"/x"), ("/srv", "..", b"/"), ("/", "../../x", b"/x")],
)
def test_the_working_directory_is_absolute(working_dir: str, cwd: str | None, expected: bytes) -> None:
    assert command(["x"], cwd=cwd).resolve(ImageConfig(working_dir=working_dir), box()).cwd == expected


def test_users_of_command_box_and_image() -> None:
    config = ImageConfig(user="image")
    assert command(["x"]).resolve(config, box()).user == "image"
    assert command(["x"]).resolve(config, box(user="box")).user == "box"
    assert command(["x"], user="").resolve(config, box(user="box")).user == ""


def test_a_terminal_has_a_sensible_size() -> None:
    with pytest.raises(ValueError, match="rows"):
        TtySize(rows=-1)
    with pytest.raises(ValueError, match="columns"):
        TtySize(columns=1 << 16)
    with pytest.raises(TypeError, match="rows"):
        TtySize(rows=1.5)  # type: ignore[arg-type]
