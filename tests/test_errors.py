"""The errors that applications catch."""

from __future__ import annotations

import inspect

import boxlite
from boxlite import errors


def test_every_error_is_to_be_had_from_the_package_itself() -> None:
    raised = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert raised - set(boxlite.__all__) == set()
