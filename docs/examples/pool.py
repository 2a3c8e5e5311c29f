"""Boxes that are ready before anybody asks: each piece of code has one, which nobody else has had."""

import trio

import boxlite


async def evaluate(pool: boxlite.Pool, expression: str) -> None:
    async with pool.box() as box:
        done = await box.run(["python3", "-c", f"print({expression})"])
        print(expression, "=", done.stdout)


async def main() -> None:
    async with boxlite.open_runtime() as runtime, runtime.pool("builtin/python", size=2) as pool:
        await pool.wait_ready()
        async with trio.open_nursery() as nursery:
            for expression in ("6 * 7", "2 ** 10", "sum(range(5))"):
                nursery.start_soon(evaluate, pool, expression)
        print(pool.metrics().handed_out, "boxes were used")


trio.run(main)
