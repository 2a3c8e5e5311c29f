"""pytest fixtures, for pytest-trio: `pytest_plugins = ["boxlite.testing.fixtures"]` in a conftest.py brings them.

A test that takes one of them runs in virtual time.
"""

from __future__ import annotations

from boxlite.testing.extra import missing

try:
    import pytest_trio
except ImportError as error:
    raise missing(__name__, error) from error

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from trio.testing import MockClock

from boxlite.runtime.runtime import Runtime
from boxlite.testing.host import SimulatedHost, open_host
from boxlite.testing.runtime import open_simulated_runtime

F = TypeVar("F", bound=Callable[..., object])
_fixture: Callable[[F], F] = pytest_trio.trio_fixture


@_fixture
async def simulated_host(autojump_clock: MockClock) -> AsyncIterator[SimulatedHost]:
    """A computer for the test, on which it may open runtimes, crash them, and open the next."""
    async with open_host() as host:
        yield host


@_fixture
async def simulated_runtime(autojump_clock: MockClock) -> AsyncIterator[Runtime]:
    """A runtime with simulated machines."""
    async with open_simulated_runtime() as runtime:
        yield runtime
