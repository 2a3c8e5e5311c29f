"""Talks with a command while it runs: lines go in, lines come out, and the end of the input ends it."""

import trio

import boxlite

PROGRAM = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)\nprint('end of input')"


async def main() -> None:
    async with (
        boxlite.open_runtime() as runtime,
        runtime.open_box("builtin/python") as box,
        box.exec(["python3", "-c", PROGRAM]) as execution,
    ):
        assert execution.stdin is not None
        answers = execution.stdout.lines()
        for question in (b"hello\n", b"box\n"):
            await execution.stdin.send_all(question)
            print(await anext(answers))
        await execution.stdin.aclose()
        async for line in answers:
            print(line)
        print(await execution.wait())


trio.run(main)
