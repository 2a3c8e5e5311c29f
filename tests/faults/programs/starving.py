"""Takes its own descriptors away, again and again with some more left, at the stage of a box's life that is given.

Prints the error each time that the stage fails, then `done` when it went well, and `usable` when everything works after
that. Anything else that is raised, a descriptor that stays open among it, ends it with a traceback.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

import boxlite
from tests.faults.programs.holding import say
from tests.vmm.processes import open_files, until

STAGE, *SPARE = sys.argv[1:]
SECONDS = 30


@contextmanager
def starved(spare: int) -> Iterator[None]:
    """As many descriptors as there are, and so many more; gaps are filled, for a limit is of their numbers."""
    fillers: list[int] = []
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    while not fillers or fillers[-1] < highest:
        fillers.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for filler in fillers:
            os.close(filler)


async def attempt(stage: Callable[[], Awaitable[object]], spare: int) -> bool:
    """Whether it went well."""
    before = open_files()
    try:
        with starved(spare), trio.fail_after(SECONDS):
            await stage()
    except boxlite.BoxliteError as error:
        say(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        # A thread that was not waited for has its file open a little longer.
        await until(lambda: open_files() <= before, 5)
        return False
    say("done")
    return True


@asynccontextmanager
async def stage_of(runtime: boxlite.Runtime) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    box = await runtime.create("builtin/python", name="box", disk_mib=64)
    match STAGE:
        case "create":
            yield lambda: runtime.create("builtin/python", name="new")
        case "start":
            yield box.start
        case "exec":
            await box.start()
            yield lambda: box.run(["true"])
    assert (await box.run(["echo", "usable"])).stdout == b"usable\n"
    say("usable")
    for box in await runtime.list():
        await box.remove(force=True)


async def main() -> None:
    # Threads that were never started before cannot be, later.
    await trio.to_thread.run_sync(os.getpid)
    async with boxlite.open_runtime() as runtime, stage_of(runtime) as stage:
        for spare in map(int, SPARE):
            if await attempt(stage, spare):
                return


trio.run(main)
