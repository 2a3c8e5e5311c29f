from __future__ import annotations

import json
import signal

import click
import pytest

from boxlite.cli.failure import Interrupted, describe_failure, errors_in_json, report
from boxlite.errors import ImageNotFound, WorkdirNotFound


def test_an_error_of_ours_is_one_line_and_125(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ImageNotFound("there is no image x"), debug=False) == 125
    assert capsys.readouterr() == ("", "boxlite: there is no image x\n")


def test_every_error_of_a_group_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    error = ExceptionGroup("", [ImageNotFound("a"), ExceptionGroup("", [OSError("b"), ImageNotFound("a")])])
    assert report(error, debug=False) == 125
    assert capsys.readouterr().err == "boxlite: a\nboxlite: b\n"


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ImageNotFound("there is no image x"), debug=True) == 125
    assert "ImageNotFound: there is no image x\nboxlite: there" in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_is_called_a_bug_and_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError) as caught:
        dict[str, str]()["surprise"]
    assert report(caught.value, debug=False) == 125
    told = capsys.readouterr().err
    assert "boxlite: this is a bug in boxlite: KeyError: 'surprise'\n" in told
    assert "test_failure.py" in told


def test_a_wrong_use_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.BadParameter), errors_in_json(True):
        raise click.BadParameter("'=x' names no variable")
    [error] = json.loads(capsys.readouterr().out)["errors"]
    assert error == {"type": "BadParameter", "message": "Invalid value: '=x' names no variable"}


def test_what_the_guest_says_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A guest's message may carry escape sequences, control characters, and halves of characters."""
    report(WorkdirNotFound("box", "\x1b]0;owned\x07\x1b[2J\rno \u202edir\udcff"), debug=False)
    told = capsys.readouterr().err
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(told)
    assert told.startswith("boxlite: box box: no dir")


def test_neither_can_it_in_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    report(WorkdirNotFound("box", "\x1b]0;owned\x07\x1b[2J\rno \u202edir\udcff"), debug=True)
    told = capsys.readouterr().err
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(told)
    assert "Traceback" in told or "WorkdirNotFound: box box: no dir" in told


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Interrupted(signal.SIGTERM), 143),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (ExceptionGroup("", [BrokenPipeError(), BrokenPipeError()]), 141),
        (ExceptionGroup("", [OSError("its consequence"), Interrupted(signal.SIGINT)]), 130),
    ],
)
def test_signals_and_closed_pipes_end_boxlite_quietly(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error, debug=False) == status
    assert capsys.readouterr() == ("", "")


def test_a_closed_pipe_does_not_hide_another_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ExceptionGroup("", [BrokenPipeError("pipe"), ImageNotFound("image")]), debug=False) == 125
    assert "boxlite: image\n" in capsys.readouterr().err


def test_a_failure_names_the_type_of_each_error() -> None:
    expected = {"exit_code": 125, "errors": [{"type": "ImageNotFound", "message": "no image"}]}
    assert expected == describe_failure(125, (ImageNotFound("no image"),))
