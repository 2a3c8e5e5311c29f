"""A guest cannot smuggle a value of another type into a reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.portal.checks import MAX_SPOKEN, checked, spoken
from proto.boxlite import v1


def test_a_message_of_the_declared_types_is_itself() -> None:
    output = v1.Output(stream=v1.OutputStream.STDOUT, offset=1, data=b"x", eof=True)
    listed = v1.ListReply(executions=[v1.ExecutionInfo(argv=[b"a"], exited=v1.Exited()), v1.ExecutionInfo()])
    for message in (v1.ExecEvent(output=output), v1.ExecEvent(exited=v1.Exited(message="m")), v1.PingReply(), listed):
        assert checked(message) is message


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (v1.PingReply, b"\x08\x05"),  # payload, declared as bytes, as a number
        (v1.PingReply, b"\x12\x03abc"),  # protocol, declared as a number, as bytes
        (v1.ExecEvent, b"\x12\x02\x18\x05"),  # output.data as a number, one level down
        (v1.ExecEvent, b"\x10\x05"),  # output, declared as a message, as a number
        (v1.ListReply, b"\x08\x05"),  # executions, declared as messages, as a number
        (v1.ListReply, b"\x0a\x02\x10\x05"),  # executions.argv, declared as bytes, as a number
    ],
)
def test_a_mistyped_field_is_an_error(
    kind: type[v1.PingReply] | type[v1.ExecEvent] | type[v1.ListReply], raw: bytes
) -> None:
    with pytest.raises((TypeError, ValueError)):
        checked(kind.parse(raw))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_well_typed_event_or_an_error(raw: bytes) -> None:
    try:
        event = checked(v1.ExecEvent.parse(raw))
    except Exception:
        return
    if event.output is not None:
        assert isinstance(event.output.data, bytes)
        assert isinstance(event.output.offset, int)
    if event.exited is not None:
        assert isinstance(event.exited.exit_code, int)
        assert isinstance(event.exited.message, str)


def test_what_a_guest_says_cannot_steer_a_terminal_or_fill_the_screen() -> None:
    assert spoken("no\x1b[2J such\x07 user\n" + "x" * 5000) == "no such user " + "x" * (MAX_SPOKEN - 18)
