"""What a box is created with is checked when it is given."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from boxlite.boxes.options import BoxOptions
from boxlite.boxes.policy import HealthCheck, RestartKind, RestartPolicy
from boxlite.errors import InvalidOptions
from boxlite.images.reference import BuiltinReference

IMAGE = BuiltinReference("python")


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "-a"},
        {"name": "a/b"},
        {"name": "a" * 64},
        {"name": "a\n"},
        {"cpus": 0},
        {"memory_mib": 1},
        {"disk_mib": 0},
        {"boot_timeout": 0},
        {"cpus": 1.5},
        {"memory_mib": 256.0},
        {"disk_mib": "64"},
        {"env": {"A=B": "x"}},
        {"env": {"A": "\0"}},
        {"env": {"A": 1}},
        {"env": {b"A": b"1"}},
        {"env": {"A": b"1"}},
        {"env": {"A": Path("1")}},
        {"user": "a\0"},
        {"user": 0},
        {"user": b"root"},
        {"name": 5},
        {"name": None},
        {"cpus": True},
        {"restart": None},
        {"restart": RestartKind.ALWAYS.value.encode()},
        {"health": ["true"]},
        {"detached": 1},
        {"detached": None},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions):
        BoxOptions(IMAGE, **options)


@pytest.mark.parametrize(
    ("kind", "max_retries"),
    [("no", None), ("on-failure", 1), (RestartKind.ON_FAILURE, True), (RestartKind.ON_FAILURE, 10**9)],
)
def test_a_policy_that_could_not_be_read_again_is_refused(kind: Any, max_retries: Any) -> None:
    with pytest.raises(InvalidOptions):
        RestartPolicy(kind, max_retries)


@pytest.mark.parametrize("command", [(), (b"true",), ("a\0",), ("a\ud800",)])
def test_a_health_check_that_no_guest_could_be_told_is_refused(command: Any) -> None:
    with pytest.raises(InvalidOptions):
        HealthCheck(command)


def test_a_time_of_another_numeric_type_is_taken_as_seconds() -> None:
    """Trio's clock adds to floats alone."""
    assert type(BoxOptions(IMAGE, boot_timeout=Decimal(3)).boot_timeout) is float


def test_made_up_names_differ() -> None:
    assert len({BoxOptions(IMAGE).name for _ in range(100)}) == 100


def test_options_do_not_change_with_the_caller_s_dictionary() -> None:
    env = {"A": "1"}
    options = BoxOptions(IMAGE, env=env)
    env["A"] = "2"
    assert options.env == {"A": "1"}
