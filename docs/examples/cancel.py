"""A deadline of the host's covers everything: when it passes, the command's whole process group in the box is gone."""

import trio

import boxlite

COUNT_SLEEPS = "n=0; for each in /proc/[0-9]*/comm; do grep -q sleep $each && n=$((n + 1)); done 2>/dev/null; echo $n"


async def main() -> None:
    async with boxlite.open_runtime() as runtime, runtime.open_box("builtin/python") as box:
        await box.start()
        with trio.move_on_after(5) as deadline:
            async with box.exec(["sh", "-c", "sleep 1000 & sleep 1000 & echo both sleep; wait"]) as execution:
                print(await anext(execution.stdout.lines()))
                await execution.wait()
        print("cancelled:", deadline.cancelled_caught)
        left = await box.run(["sh", "-c", COUNT_SLEEPS])
        print("sleeps left in the box:", left.stdout)


trio.run(main)
