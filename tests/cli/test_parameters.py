from __future__ import annotations

from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.boxes.volumes import Volume
from boxlite.cli.parameters import Duration, SizeInMib, VolumeText, read_environment


def mib(text: str) -> int:
    return SizeInMib().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512m", 512),
        ("512M", 512),
        ("512mb", 512),
        ("512MiB", 512),
        ("1g", 1024),
        ("1.5g", 1536),
        ("2t", 2 << 20),
        ("1024k", 1),
        ("1048576", 1),
        ("1048576b", 1),
        ("1048577", 2),
        (" 1 g ", 1024),
    ],
)
def test_a_size_is_read_as_docker_reads_it(text: str, expected: int) -> None:
    assert expected == mib(text)


@pytest.mark.parametrize("text", ["", "m", "-1m", "1x", "0x10", "1e9", "inf", "nan", "1..5g", "1m2", "९x", "1" * 400])
def test_what_is_no_size_is_refused_with_the_form_to_use(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 512m"):
        mib(text)


@given(st.integers(0, 1 << 40))
def test_a_size_is_rounded_up_so_that_nobody_gets_less_than_asked_for(size: int) -> None:
    """Law: the result is the smallest number of MiB that holds the size."""
    result = mib(str(size))
    assert (result - 1) << 20 < size <= result << 20 or size == result == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90.0), ("0.5", 0.5), ("1e3", 1000.0), ("30s", 30.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("500ms", 0.5)],
)
def test_a_time_is_in_seconds_or_as_docker_writes_it(text: str, expected: float) -> None:
    assert expected == Duration().convert(text, None, None)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "nan", "inf", "1d", "1s1m", "m", "1e400", "1e10", "10000000h"])
def test_a_time_is_positive_and_has_an_end(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time in seconds"):
        Duration().convert(text, None, None)


def test_where_no_time_means_something_zero_is_one() -> None:
    assert Duration(zero=True).convert("0", None, None) == 0.0
    with pytest.raises(click.BadParameter, match="a number that is not negative"):
        Duration(zero=True).convert("-1", None, None)


def test_a_variable_without_value_takes_the_callers() -> None:
    """As in docker, one that the caller has not got is left out, and an empty value is a value."""
    result = read_environment(["HERE", "MISSING", "EMPTY=", "A=b=c"], [], {"HERE": "value"})
    assert result == {"HERE": "value", "EMPTY": "", "A": "b=c"}


def test_a_file_of_variables_may_have_comments_and_is_overruled_by_options(tmp_path: Path) -> None:
    file = tmp_path / "variables"
    file.write_bytes(b"\xef\xbb\xbfA=file\n# A=comment\n\n  B = spaced \r\nC=#no comment\nOWN\nD=\xff")
    result = read_environment(["A=option"], [file], {"OWN": "mine"})
    assert result == {"A": "option", "B ": " spaced ", "C": "#no comment", "OWN": "mine", "D": "\udcff"}


@pytest.mark.parametrize("text", ["", "=", "=value"])
def test_a_variable_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="names no variable"):
        read_environment([text], [], {})


def test_a_volume_is_read_as_docker_writes_it_and_nonsense_is_a_bad_parameter() -> None:
    assert VolumeText().convert("/srv/data:/data:ro", None, None) == Volume("/srv/data", "/data", read_only=True)
    with pytest.raises(click.BadParameter, match=r"there are no named volumes: write \./data"):
        VolumeText().convert("data:/data", None, None)
