"""Four boxes at once: four virtual machines, in one nursery."""

import trio

import boxlite


async def work(runtime: boxlite.Runtime, number: int) -> None:
    async with runtime.open_box("builtin/python", name=f"worker-{number}") as box:
        done = await box.run(["sh", "-c", f"echo $(hostname): $(({number} * {number}))"])
        print(done.stdout)


async def main() -> None:
    async with boxlite.open_runtime() as runtime, trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(work, runtime, number)


trio.run(main)
