"""The fixtures that users get: a runtime and a host, in virtual time."""

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock

from boxlite import Exited, Runtime
from boxlite.testing import SimulatedHost, open_simulated_runtime
from boxlite.testing.fixtures import simulated_host, simulated_runtime

__all__ = ["simulated_host", "simulated_runtime"]


async def test_a_runtime_for_the_test(simulated_runtime: Runtime, autojump_clock: MockClock) -> None:
    began = time.monotonic()
    async with simulated_runtime.open_box("builtin/python") as box:
        assert (await box.run(["sleep", "3600"])).outcome == Exited(0)
    assert time.monotonic() - began < 60


async def test_a_host_outlives_its_runtimes(simulated_host: SimulatedHost, autojump_clock: MockClock) -> None:
    async with open_simulated_runtime(host=simulated_host) as runtime:
        box = await runtime.create("builtin/python", name="kept", detached=True)
        await box.start()
        simulated_host.crash_runtime()
        await trio.sleep(1)
    async with open_simulated_runtime(host=simulated_host) as runtime:
        assert [box.name for box in await runtime.list()] == ["kept"]
        assert (await (await runtime.get("kept")).run(["echo", "here"])).stdout == b"here\n"
    simulated_host.reboot()
    assert simulated_host.machines == ()
    async with open_simulated_runtime(host=simulated_host) as runtime:
        with trio.fail_after(100):
            await (await runtime.get("kept")).wait()


async def test_one_runtime_at_a_time_is_open_on_a_host(
    simulated_host: SimulatedHost, autojump_clock: MockClock
) -> None:
    async with open_simulated_runtime(host=simulated_host):
        with pytest.raises(RuntimeError, match="a runtime is open on this host"):
            async with open_simulated_runtime(host=simulated_host):
                pass
