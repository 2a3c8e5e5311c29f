"""Has a box, a detached box, and a command in that which runs on; says the command's id when half of it is written."""

from __future__ import annotations

import trio

import boxlite
from tests.faults.programs.holding import say

COMMAND = "seq 500; until [ -e /go ]; do sleep 0.1; done; seq 501 1000; exit 7"


async def main() -> None:
    async with boxlite.open_runtime() as runtime:
        plain = await runtime.create("builtin/python", name="plain", disk_mib=64)
        kept = await runtime.create("builtin/python", name="kept", disk_mib=64, detached=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plain.start)
            nursery.start_soon(kept.start)
        command = await kept.spawn(["sh", "-c", COMMAND])
        async with kept.attach(command) as execution:
            await execution.stdout.receive_some()
            say(command)
            await trio.sleep_forever()


trio.run(main)
