"""Starts a command that nobody waits for, looks at it, leaves it running, and comes back for its end."""

import trio

import boxlite

COUNT = "for i in 1 2 3 4; do echo step $i; sleep 1; done; exit 7"


async def main() -> None:
    async with boxlite.open_runtime(ephemeral=True) as runtime, runtime.open_box("builtin/python") as box:
        name = await box.spawn(["sh", "-c", COUNT])
        print([info.argv[0] for info in await box.executions() if info.id == name])
        async with box.attach(name) as execution:
            print("first:", await anext(execution.stdout.lines()))
        async with box.attach(name) as execution:
            async for line in execution.stdout.lines():
                print("then:", line)
            print(await execution.wait())


trio.run(main)
