from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite import Cancelled, Exited, Outcome, Signalled, TimedOut, VmDied
from boxlite.cli.document import Capture, OutputNotKept, describe_result


@pytest.mark.parametrize(
    ("outcome", "status", "expected"),
    [
        (Exited(3), 3, {"kind": "exited", "code": 3}),
        (Signalled(9), 137, {"kind": "signalled", "signal": 9, "name": "SIGKILL"}),
        (Signalled(60), 188, {"kind": "signalled", "signal": 60, "name": None}),
        (TimedOut(), 124, {"kind": "timed_out"}),
        (Cancelled(), 137, {"kind": "cancelled"}),
        (VmDied("why", "tail"), 125, {"kind": "vm_died", "reason": "why", "console": "tail"}),
    ],
)
def test_each_outcome_has_its_own_kind(outcome: Outcome, status: int, expected: dict[str, object]) -> None:
    result = describe_result(outcome, 1.5, b"", b"")
    assert (status, expected, 1.5) == (result["exit_code"], result["outcome"], result["duration_seconds"])


@given(st.binary())
def test_output_survives_json_byte_for_byte(output: bytes) -> None:
    """Law: whatever the bytes are, `encoding` and `data` give them back."""
    document = json.loads(json.dumps(describe_result(Exited(0), None, output, b"")))["stdout"]
    data = document["data"]
    assert output == (data.encode() if document["encoding"] == "utf-8" else base64.b64decode(data))


async def test_a_capture_refuses_to_fill_the_memory() -> None:
    capture = Capture(limit=4)
    await capture.keep(b"1234")
    with pytest.raises(OutputNotKept, match="more than 4 bytes"):
        await capture.keep(b"5")
    assert capture.data == b"1234"
