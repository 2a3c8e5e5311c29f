"""Stops a detached box for each stage of a stop, which goes no further than that stage, whose name is the box's.

Each name is printed when its stage is reached: before the guest is asked, after it has said that it will, and before
the power button of a machine whose guest refuses.
"""

from __future__ import annotations

import trio

import boxlite
from boxlite.errors import GuestRefused
from boxlite.portal.session import Session
from boxlite.vmm.local import LocalVm
from tests.faults.programs.holding import hold

STAGES = ("asking", "asked", "power-button")


async def main() -> None:
    shutdown = Session.shutdown

    async def refuse(self: Session, grace: float) -> None:
        if self._box == "power-button":
            raise GuestRefused(self._box, "it does not feel like it")
        await shutdown(self, grace)

    Session.shutdown = refuse  # type: ignore[method-assign]
    hold(Session, "shutdown", lambda session, grace: session._box, name="asking", before=True)
    hold(Session, "shutdown", lambda session, grace: session._box, name="asked")
    hold(LocalVm, "press_power_button", lambda vm: vm._box, name="power-button", before=True)
    async with boxlite.open_runtime() as runtime:
        boxes = [
            await runtime.create("builtin/python", name=name, disk_mib=64, memory_mib=192, detached=True)
            for name in STAGES
        ]
        async with trio.open_nursery() as nursery:
            for box in boxes:
                nursery.start_soon(box.run, ["sh", "-c", "echo kept > /mine; sync"])
        async with trio.open_nursery() as nursery:
            for box in boxes:
                nursery.start_soon(box.stop, 0)


trio.run(main)
