"""On a real machine: a connection that breaks under a stream costs time, and not a byte."""

from __future__ import annotations

import hashlib

import boxlite
from boxlite import Exited
from boxlite.boxes.messages import Use
from tests.shared_box import in_shared_box

PIECE = bytes(range(256)) * 256
PIECES = 1024
PROGRAM = f"import sys\nfor _ in range({PIECES}): sys.stdout.buffer.write(bytes(range(256)) * 256)"


@in_shared_box
async def test_64_mib_arrive_whole_over_two_breaks(box: boxlite.Box) -> None:
    machine = (await box._ask(Use())).machine
    size = PIECES * len(PIECE)
    received, length, breaks = hashlib.sha256(), 0, 0
    async with box.exec(["python3", "-c", PROGRAM]) as execution:
        async for chunk in execution.stdout:
            received.update(chunk)
            length += len(chunk)
            if length > (breaks + 1) * (size // 3) and breaks < 2:
                breaks += 1
                machine.session.close()
        assert await execution.wait() == Exited(0)
    assert (breaks, length) == (2, size)
    assert received.digest() == hashlib.sha256(PIECE * PIECES).digest()
