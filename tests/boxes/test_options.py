"""What a box is created with is checked when it is given."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from boxlite.boxes.options import BoxOptions
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
        {"user": "a\0"},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions):
        BoxOptions(IMAGE, **options)


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
