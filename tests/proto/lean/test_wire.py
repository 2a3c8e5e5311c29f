"""The guest's messages say the same on the wire as the host's, which betterproto2 encodes and decodes."""

from __future__ import annotations

import inspect
from typing import cast

import betterproto2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proto.boxlite.v1 as host
from proto.lean import messages as guest
from proto.lean import wire
from proto.lean.wire import Kind, Message, WireError, encode

MESSAGES = [kind for kind in vars(guest).values() if isinstance(kind, Kind)]

_SCALARS: dict[int, st.SearchStrategy[object]] = {
    wire.UINT32: st.integers(0, 2**32 - 1),
    wire.UINT64: st.integers(0, 2**64 - 1),
    wire.ENUM: st.integers(0, 2),
    wire.BOOL: st.booleans(),
    wire.FIXED32: st.integers(0, 2**32 - 1),
    wire.FIXED64: st.integers(0, 2**64 - 1),
    wire.BYTES: st.binary(max_size=200),
    wire.STRING: st.text(max_size=100),
}


def decode(kind: Kind | type[Message], data: bytes | memoryview) -> Message:
    """`messages` has classes for the type checker, and a `Kind` each at run time."""
    return wire.decode(cast("type[Message]", kind), data)


@st.composite
def messages(draw: st.DrawFn, kind: Kind) -> Message:
    """Any message of this type, with at most one member of each oneof."""
    values: dict[str, object] = {}
    for _, name, field, repeated, message_type, alternatives in kind.fields.values():
        if not draw(st.booleans()) or any(alternative in values for alternative in alternatives):
            continue
        content = _SCALARS[field] if message_type is None else messages(message_type)
        values[name] = draw(st.lists(content, max_size=4) if repeated else content)
    return kind(**values)


any_message = st.sampled_from(MESSAGES).flatmap(messages)


HOST_TYPES = {
    name: kind for name, kind in vars(host).items() if isinstance(kind, type) and issubclass(kind, betterproto2.Message)
}


def as_host(message: Message) -> betterproto2.Message:
    """The host's message with the same fields."""

    def convert(value: object) -> object:
        if isinstance(value, Message):
            return as_host(value)
        return [convert(item) for item in value] if isinstance(value, list | tuple) else value

    return HOST_TYPES[message.kind.name](**{name: convert(value) for name, value in vars(message).items()})


def test_there_is_each_message_of_the_host_with_the_same_fields() -> None:
    ours = {kind.name: {name for _, name, *_ in kind.fields.values()} for kind in MESSAGES}
    assert ours == {name: set(inspect.signature(kind).parameters) for name, kind in HOST_TYPES.items()}


@pytest.mark.parametrize("name", ["StdinMode", "OutputStream", "StartFailure"])
def test_the_enums_have_the_hosts_values(name: str) -> None:
    assert vars(getattr(guest, name)) == {member.name: member.value for member in getattr(host, name)}


@given(any_message)
def test_the_host_reads_what_the_guest_writes(message: Message) -> None:
    assert HOST_TYPES[message.kind.name].parse(encode(message)) == as_host(message)


@given(any_message)
def test_the_guest_reads_what_the_host_writes(message: Message) -> None:
    encoded = bytes(as_host(message))
    assert decode(message.kind, encoded) == message
    assert decode(message.kind, memoryview(encoded)) == message


@given(any_message)
def test_the_pieces_of_a_message_have_the_length_that_is_said(message: Message) -> None:
    pieces, size = wire.parts(message)
    assert b"".join(pieces) == encode(message)
    assert size == len(encode(message))


def test_long_bytes_are_not_copied_before_the_pieces_are_joined() -> None:
    data = bytes(1 << 16)
    pieces, _ = wire.parts(guest.ExecEvent(output=guest.Output(data=data)))
    assert any(piece is data for piece in pieces)


@given(st.sampled_from(MESSAGES), st.binary(max_size=80))
def test_whatever_bytes_are_a_message_or_refused(kind: Kind, data: bytes) -> None:
    try:
        message = decode(kind, data)
    except WireError:
        return
    assert decode(kind, encode(message)) == message


@given(any_message, st.data())
def test_a_message_that_is_cut_off_within_a_field_is_refused(message: Message, data: st.DataObject) -> None:
    """At the end of a field it is another message, as protobuf has it."""
    encoded = encode(message)
    cut = encoded[: data.draw(st.integers(0, len(encoded)))]
    try:
        shorter = decode(message.kind, cut)
    except WireError:
        return
    assert encode(shorter) == cut


def test_unknown_fields_are_skipped() -> None:
    unknown = b"\xf8\x07\x2a" + b"\xfa\x07\x03abc" + b"\xfd\x07abcd" + b"\xf9\x07abcdefgh"
    assert decode(guest.Started, unknown + b"\x08\x07" + unknown) == guest.Started(pid=7)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\x0a\x01a", "wire type 2, not 0"),
        (b"\x0b", "wire type 3 is not used"),
        (b"\x0f", "wire type 7 is not used"),
        (b"\x00\x01", "no field has the number 0"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than ten bytes"),
        (b"\x08\x80", "out of range"),
        (b"\x12\x7f", "a field of 127 bytes, of which 0 are there"),
    ],
)
def test_what_breaks_the_format_is_refused_with_the_reason(data: bytes, fault: str) -> None:
    with pytest.raises(WireError, match=fault):
        decode(guest.Started, data)


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(WireError, match="utf-8"):
        decode(guest.WaitRequest, b"\x0a\x01\xff")


def test_text_that_has_no_encoding_is_sent_without_what_cannot_be_said() -> None:
    """A name in a message for people may be any bytes, decoded with surrogate escapes."""
    exited = guest.Exited(message="no\udcff: not found")
    assert host.Exited.parse(encode(exited)).message == "no?: not found"


def test_what_comes_twice_is_merged_and_the_last_member_of_a_oneof_stays() -> None:
    twice = encode(guest.ExecRequest(credit=guest.Credit(stdout_limit=1)))
    twice += encode(guest.ExecRequest(credit=guest.Credit(stderr_limit=2)))
    assert wire.decode(guest.ExecRequest, twice).credit == guest.Credit(stdout_limit=1, stderr_limit=2)
    other = encode(guest.ExecRequest(start=guest.ExecStart(execution_id="x")))
    assert wire.decode(guest.ExecRequest, twice + other).credit is None
    assert wire.decode(guest.ExecRequest, other + twice).start is None


def test_messages_are_equal_by_their_fields_and_show_them() -> None:
    assert guest.Started(pid=0) == guest.Started()
    assert guest.Started(pid=1) != guest.Started()
    assert guest.SetClockReply() != guest.ShutdownReply()
    assert guest.ExecStart(argv=[]) == guest.ExecStart()
    with pytest.raises(TypeError, match="Started has no fields \\['pit'\\]"):
        guest.Started(pit=1)  # type: ignore[call-arg]
    assert repr(guest.Output(stream=1, data=b"x")) == "Output(stream=1, data=b'x')"
