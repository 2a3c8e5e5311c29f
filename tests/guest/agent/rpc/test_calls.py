"""gRPC's framing and headers, against the package that the host uses."""

from __future__ import annotations

import hpack
import pytest
from grpclib.metadata import decode_grpc_message
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.rpc.calls import HEADERS, MAX_MESSAGE, CallError, MessageReader, Status, path, prefixed, trailers
from proto.lean.messages import PingReply, Started
from tests.guest.agent.rpc.cuts import cut


def prefix(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_messages_are_put_together_however_they_are_cut(messages: list[bytes], data: st.DataObject) -> None:
    reader = MessageReader()
    pieces = cut(data, b"".join(prefix(message) for message in messages))
    read = [bytes(message) for piece in pieces for message in reader.feed(memoryview(piece))]
    assert read == messages
    assert not reader.partial


def test_a_message_that_has_begun_is_told_from_none() -> None:
    reader = MessageReader()
    assert reader.feed(memoryview(b"\0\0\0")) == []
    assert reader.partial
    assert reader.feed(memoryview(b"\0\1a")) == [b"a"]
    assert not reader.partial


def test_a_message_that_comes_in_one_piece_is_not_copied() -> None:
    data = prefix(bytes(1000))
    (message,) = MessageReader().feed(memoryview(data))
    assert message.obj is data


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\1\0\0\0\1", Status.UNIMPLEMENTED),
        (b"\0" + (MAX_MESSAGE + 1).to_bytes(4, "big"), Status.RESOURCE_EXHAUSTED),
    ],
)
def test_what_is_compressed_or_too_long_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(CallError) as refused:
        MessageReader().feed(memoryview(data))
    assert refused.value.status == status


def test_a_message_has_its_length_before_it() -> None:
    pieces, size = prefixed(Started(pid=7))
    assert (b"".join(pieces), size) == (b"\0\0\0\0\2\x08\x07", 7)
    assert prefixed(PingReply()) == ([bytes(5)], 5)


def read(block: bytes) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in hpack.Decoder().decode(block, raw=True)}


@given(st.integers(1, 15), st.text(max_size=200))
def test_the_host_reads_status_and_message(status: int, message: str) -> None:
    fields = read(HEADERS + trailers(status, message))
    assert fields[":status"] == "200"
    assert fields["content-type"] == "application/grpc+proto"
    assert fields["grpc-status"] == str(status)
    expected = message.encode("utf-8", "replace").decode()  # A lone surrogate has no encoding.
    assert decode_grpc_message(fields.get("grpc-message", "")) == expected


def test_a_message_without_end_still_fits_a_frame() -> None:
    assert len(trailers(Status.INTERNAL, "\N{GRINNING FACE}" * 100_000)) < 16 << 10


def test_success_says_no_more_than_that() -> None:
    assert read(trailers()) == {"grpc-status": "0"}


REQUEST = [(":method", "POST"), (":path", "/a.B/C"), ("te", "trailers"), ("content-type", "application/grpc")]


def test_a_request_has_the_path_of_its_method() -> None:
    assert path(REQUEST) == "/a.B/C"
    assert path([*REQUEST[:3], ("content-type", "application/grpc+proto")]) == "/a.B/C"


@pytest.mark.parametrize(
    "headers", [[], REQUEST[1:], REQUEST[:3], [(":method", "GET"), *REQUEST[1:]], [*REQUEST[:3], ("content-type", "x")]]
)
def test_what_is_no_grpc_request_has_none(headers: list[tuple[str, str]]) -> None:
    assert path(headers) is None
