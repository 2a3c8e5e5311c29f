"""A function that survives the death of virtual machines, tried against a model of them: no real time passes."""

import trio
from trio.testing import MockClock

import boxlite
from boxlite.testing import Fault, FaultKind, Stage, open_simulated_runtime


async def run_somewhere(runtime: boxlite.Runtime, *argv: str) -> bytes:
    """Runs a command in a box of its own, and again in another one where the machine died under it."""
    while True:
        async with runtime.open_box("builtin/python") as box:
            done = await box.run(argv, check=False)
            if not isinstance(done.outcome, boxlite.VmDied):
                return done.stdout or b""
            print(done.outcome)


async def main() -> None:
    faults = [
        Fault(Stage.OUTPUT, FaultKind.DIE),
        Fault(Stage.EXIT, FaultKind.PANIC, nth=2),
        Fault(Stage.KERNEL, FaultKind.SLOW, nth=3, seconds=3600),
    ]
    async with open_simulated_runtime(faults=faults) as runtime:
        print(await run_somewhere(runtime, "echo", "hello"))


trio.run(main, clock=MockClock(autojump_threshold=0))
