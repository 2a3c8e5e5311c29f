"""What a pool is asked for is checked before anything is started."""

from __future__ import annotations

from typing import Any

import pytest

import boxlite
from boxlite.images.reference import parse_reference
from boxlite.pools.spec import PoolSpec

NAN = float("nan")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("max_starting", value) for value in (0, -1, True, 1.0, "2", None)),
        *(("max_failures", value) for value in (-1, 0.5, None)),
        *(
            (name, value)
            for name in ("start_timeout", "check_interval", "check_timeout", "failure_period")
            for value in (0, -1, NAN)
        ),
        ("check_interval", float("inf")),
        ("backoff", 1.0),
    ],
)
def test_an_impossible_policy_is_refused_by_its_name(option: str, value: Any) -> None:
    with pytest.raises(boxlite.InvalidOptions, match=option):
        boxlite.PoolPolicy(**{option: value})


def spec(size: Any = 1, warm_up: Any = (), policy: Any = None) -> PoolSpec:
    options = boxlite.BoxOptions(image=parse_reference("builtin/python"), name="p")
    return PoolSpec(size, options, warm_up, policy or boxlite.PoolPolicy())


@pytest.mark.parametrize("size", [-1, 1.5, True, "4", None])
def test_an_impossible_size_is_refused(size: Any) -> None:
    with pytest.raises(boxlite.InvalidOptions, match="size"):
        spec(size)


def test_another_policy_is_refused() -> None:
    with pytest.raises(boxlite.InvalidOptions, match="PoolPolicy"):
        spec(policy=boxlite.RestartPolicy())


@pytest.mark.parametrize("command", ["true", b"true", "", ["a\0b"], [""], [1]])
def test_a_command_that_no_box_could_run_is_refused(command: Any) -> None:
    with pytest.raises(boxlite.InvalidCommand):
        spec(warm_up=command)


def test_a_command_is_kept_as_bytes_and_may_be_left_out() -> None:
    assert spec(warm_up=["sh", "-c", b"\xff"]).warm_up == (b"sh", b"-c", b"\xff")
    assert spec(warm_up=[]).warm_up == ()
    assert spec(0).size == 0
