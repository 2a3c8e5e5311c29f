"""pytest fixtures, for pytest-trio: `pytest_plugins = ["boxlite.testing.fixtures"]` in a conftest.py brings them.

A test that takes one of them takes pytest-trio's `autojump_clock` too, and so runs in virtual time.
"""

from __future__ import annotations

from boxlite.testing.extra import missing

try:
    import pytest
    import pytest_trio
except ImportError as error:
    raise missing(__name__, error) from error

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import trio
from trio.testing import MockClock

from boxlite.runtime.runtime import Runtime
from boxlite.testing.host import SimulatedHost, open_host
from boxlite.testing.runtime import open_simulated_runtime

F = TypeVar("F", bound=Callable[..., object])
_fixture: Callable[[F], F] = pytest_trio.trio_fixture


@_fixture
async def simulated_host() -> AsyncIterator[SimulatedHost]:
    """A computer for the test, on which it may open runtimes, crash them, and open the next."""
    _require_virtual_time()
    async with open_host() as host:
        yield host


@_fixture
async def simulated_runtime() -> AsyncIterator[Runtime]:
    """A runtime with simulated machines."""
    _require_virtual_time()
    async with open_simulated_runtime() as runtime:
        yield runtime


def _require_virtual_time() -> None:
    # pytest-trio takes a clock from the test's own arguments alone, so that this fixture cannot bring one.
    if not isinstance(trio.lowlevel.current_clock(), MockClock):
        raise pytest.UsageError(
            "simulated machines need virtual time: let the test take the fixture autojump_clock, too"
        )
