"""The first program: one command in a box, then another one whose output is read as it comes."""

import trio

import boxlite


async def main() -> None:
    async with boxlite.open_runtime() as runtime, runtime.open_box("builtin/python") as box:
        done = await box.run(["python3", "-c", "print(6 * 7)"])
        print(done.stdout, done.outcome)
        async with box.exec(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 1; done"]) as execution:
            async for line in execution.stdout.lines():
                print(line)


trio.run(main)
