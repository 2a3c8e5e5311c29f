"""What may be asked to be executed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.command import MAX_ARGUMENTS, Refused, spawn_request
from guest.agent.container.messages import decode, encode
from proto.lean.messages import ExecStart, StartFailure, TtySize


def start(*argv: bytes, **options: Any) -> ExecStart:
    """A start request that nothing speaks against, but for the options."""
    return ExecStart(**{"execution_id": "name", "argv": list(argv), "cwd": b"/"} | options)


@pytest.mark.parametrize(
    "options",
    [
        {"argv": []},
        {"argv": [b""]},
        {"argv": [b"echo", b"a\0b"]},
        {"execution_id": ""},
        {"execution_id": "../x"},
        {"execution_id": "x" * 65},
        {"execution_id": "x\n"},
        {"cwd": b""},
        {"cwd": b"relative"},
        {"cwd": b"/a\0b"},
        {"env": [b"no equals sign"]},
        {"env": [b"=nameless"]},
        {"env": [b"A=b\0c"]},
        {"user": "root\0"},
        {"user": "x" * 257},
        {"tty": TtySize(rows=65536, columns=1)},
    ],
    ids=str,
)
def test_what_breaks_the_protocol_is_refused_as_invalid(options: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        spawn_request(start(b"true", **options), 1)
    assert refused.value.reason == StartFailure.INVALID
    assert refused.value.message


def test_more_arguments_than_the_kernel_takes_are_refused_before_they_travel() -> None:
    with pytest.raises(Refused) as refused:
        spawn_request(start(b"echo", *[b"x" * 1000] * (MAX_ARGUMENTS // 1000)), 1)
    assert refused.value.reason == StartFailure.TOO_LONG


_TEXT = st.binary(max_size=50).map(lambda text: text.replace(b"\0", b"."))


@given(st.lists(_TEXT, max_size=5), st.lists(st.tuples(_TEXT, _TEXT), max_size=5))
def test_every_other_byte_reaches_the_command(arguments: list[bytes], variables: list[tuple[bytes, bytes]]) -> None:
    """Arguments and values need be no text of any encoding."""
    env = [b"N" + name.replace(b"=", b"") + b"=" + value for name, value in variables]
    request = spawn_request(start(b"echo", *arguments, env=env), 7)
    assert decode(encode(request)) == request
    assert request.argv == [b"echo", *arguments]
    assert request.env == env
