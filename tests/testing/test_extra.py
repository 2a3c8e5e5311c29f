"""Where Hypothesis or pytest are not installed, only what needs them says so, and how to get them."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys
sys.modules[{package!r}] = None
import boxlite.testing, boxlite.testing.simulate
try:
    import boxlite.testing.{module}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "module"),
    [("hypothesis", "strategies"), ("hypothesis", "lifecycle"), ("pytest_trio", "fixtures")],
)
def test_a_missing_package_is_named_with_the_way_to_get_it(package: str, module: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(package=package, module=module)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert child.stdout == f"boxlite.testing.{module} needs {package}: pip install 'boxlite-trio[testing]'\n"
