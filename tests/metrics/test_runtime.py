"""What a runtime counts while its boxes live, over simulated machines."""

from __future__ import annotations

import subprocess

from boxlite import BoxState, Runtime
from boxlite.metrics.prometheus import exposition
from boxlite.testing.runtime import open_simulated_runtime


async def test_boxes_are_counted_from_create_to_remove(autojump_clock: object) -> None:
    """Law: a box that was removed still counts for its runtime, and its own metrics still tell its end."""
    async with open_simulated_runtime() as runtime:
        box = await runtime.create("builtin/python", name="web")
        assert (runtime.metrics().boxes_created, runtime.metrics().boxes_running) == (1, 0)
        assert box.metrics().stage_seconds == {}
        await box.start()
        assert runtime.metrics().boxes_running == 1
        assert set(box.metrics().stage_seconds) >= {"template", "spawn", "connect", "restore"}
        done = await box.run(["cat"], input=b"hello", check=False)
        assert done.stdout is not None
        metrics = box.metrics()
        assert (metrics.executions, metrics.bytes_received) == (1, len(done.stdout))
        assert runtime.box_metrics() == (metrics,)
        await box.remove(force=True)
        assert box.metrics().state is BoxState.REMOVED
        assert (runtime.metrics().boxes_destroyed, runtime.metrics().executions) == (1, 1)
        assert runtime.box_metrics() == ()


async def test_a_simulated_machine_uses_nothing_of_the_real_host(autojump_clock: object) -> None:
    """Its number may be that of a real process, which is another one."""
    async with open_simulated_runtime() as runtime:
        box = await runtime.create("builtin/python")
        await box.start()
        assert (await box.status()).pid is not None
        assert (box.metrics().cpu_seconds, box.metrics().memory_bytes) == (None, None)


async def test_an_attended_command_is_counted_once(autojump_clock: object) -> None:
    async with open_simulated_runtime() as runtime:
        box = await runtime.create("builtin/python")
        async with box.exec(["true"], stdin=subprocess.DEVNULL) as execution:
            await execution.wait()
        assert runtime.metrics().executions == 1


async def test_a_runtime_is_what_a_collector_takes(autojump_clock: object) -> None:
    async with open_simulated_runtime() as runtime:
        assert isinstance(runtime, Runtime)
        await runtime.create("builtin/python")
        assert b"boxlite_boxes_created_total 1.0" in exposition(runtime)
