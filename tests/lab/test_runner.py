"""What runs the commands in the lab: output as it was, in frames, and the status at the end."""

from __future__ import annotations

import io
import os
import signal
import struct
import sys
from typing import Any

import pytest

from lab.runner import FRAME, STDERR, STDOUT, run


def frames(port: io.BytesIO) -> list[tuple[bytes, bytes]]:
    port.seek(0)
    found = []
    while header := port.read(struct.calcsize(FRAME)):
        kind, length = struct.unpack(FRAME, header)
        payload = port.read(length)
        assert len(payload) == length
        found.append((kind, payload))
    return found


def request(*argv: str, **fields: Any) -> dict[str, Any]:
    return {"argv": argv, "cwd": "/", "environment": dict(os.environ), **fields}


def text(port: io.BytesIO, wanted: bytes) -> bytes:
    return b"".join(payload for kind, payload in frames(port) if kind == wanted)


def test_both_outputs_and_the_status_arrive() -> None:
    port = io.BytesIO()
    assert run(port, request("sh", "-c", "echo out; echo err >&2; exit 3")) == 3
    assert (text(port, STDOUT), text(port, STDERR)) == (b"out\n", b"err\n")


def test_much_output_is_complete() -> None:
    port = io.BytesIO()
    assert run(port, request(sys.executable, "-c", "print('x' * 1_000_000, end='')")) == 0
    assert text(port, STDOUT) == b"x" * 1_000_000


def test_a_signal_is_a_status_below_zero() -> None:
    assert run(io.BytesIO(), request("sh", "-c", "kill -9 $$")) == -signal.SIGKILL


def test_a_command_sees_its_directory_and_environment_and_no_input(tmp_path: os.PathLike[str]) -> None:
    port = io.BytesIO()
    given = request("sh", "-c", "pwd; echo $NAME; cat", cwd=os.fspath(tmp_path), environment={"NAME": "value"})
    assert run(port, given | {"argv": ["/bin/sh", *given["argv"][1:]]}) == 0
    assert text(port, STDOUT) == f"{tmp_path}\nvalue\n".encode()


@pytest.mark.parametrize("fields", [{"argv": ["/no/such/program"]}, {"argv": ["/bin/sh"], "cwd": "/no/such/directory"}])
def test_what_does_not_start_says_why(fields: dict[str, Any]) -> None:
    port = io.BytesIO()
    assert run(port, request() | fields) == 127
    assert b"No such file or directory" in text(port, STDERR)
