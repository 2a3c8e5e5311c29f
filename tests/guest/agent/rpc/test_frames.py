"""HTTP/2's frames, against the package that the host uses."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, Frame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.rpc import frames
from guest.agent.rpc.frames import FrameReader, ProtocolError
from tests.guest.agent.rpc.cuts import cut

_streams = st.integers(1, 2**31 - 1)
_any_frame = st.one_of(
    st.builds(DataFrame, _streams, st.binary(max_size=100)),
    st.builds(lambda value: PingFrame(0, value), st.binary(min_size=8, max_size=8)),
    st.builds(WindowUpdateFrame, st.just(0) | _streams, st.integers(1, 2**31 - 1)),
    st.builds(RstStreamFrame, _streams, st.integers(0, 2**32 - 1)),
)


@given(st.lists(_any_frame, max_size=8), st.data())
def test_frames_are_found_however_they_are_cut(sent: list[Frame], data: st.DataObject) -> None:
    reader = FrameReader()
    pieces = cut(data, b"".join(frame.serialize() for frame in sent))
    read = [(kind, stream, bytes(payload)) for piece in pieces for kind, _, stream, payload in reader.feed(piece)]
    assert read == [(frame.type, frame.stream_id, frame.serialize_body()) for frame in sent]


@given(st.integers(0, 9), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=100))
def test_a_frame_has_the_headers_of_the_specification(kind: int, flags: int, stream: int, payload: bytes) -> None:
    built = frames.frame(kind, flags, stream, payload)
    assert built[:3] == len(payload).to_bytes(3, "big")
    assert (built[3], built[4], int.from_bytes(built[5:9], "big"), built[9:]) == (kind, flags, stream, payload)


@given(st.dictionaries(st.integers(0, 255), st.integers(0, 2**32 - 1), max_size=5))
def test_settings_are_those_of_the_host(values: dict[int, int]) -> None:
    body = SettingsFrame(0, values).serialize_body()
    assert frames.settings(values) == body
    assert dict(frames.parse_settings(memoryview(body))) == values


def test_a_frame_longer_than_agreed_is_refused_before_it_came() -> None:
    longest = frames.header(frames.DATA, 0, 1, frames.MAX_PAYLOAD)
    assert list(FrameReader().feed(longest)) == []
    with pytest.raises(ProtocolError) as refused:
        list(FrameReader().feed(frames.header(frames.DATA, 0, 1, frames.MAX_PAYLOAD + 1)))
    assert refused.value.code == frames.FRAME_SIZE_ERROR


def test_settings_and_numbers_of_another_length_are_refused() -> None:
    with pytest.raises(ProtocolError):
        frames.parse_settings(memoryview(bytes(7)))
    with pytest.raises(ProtocolError):
        frames.parse_number(memoryview(bytes(5)))


def test_the_reserved_bit_is_ignored() -> None:
    assert frames.parse_number(memoryview(b"\x80\0\0\1")) == 1
    ((_, _, stream, _),) = FrameReader().feed(b"\0\0\0\x08\0\x80\0\0\1")
    assert stream == 1


@given(st.binary(max_size=50), st.integers(0, 20))
def test_padding_is_taken_away(content: bytes, size: int) -> None:
    padded = bytes((size,)) + content + bytes(size)
    assert frames.without_padding(frames.PADDED, memoryview(padded)) == content
    assert frames.without_padding(0, memoryview(padded)) == padded


@pytest.mark.parametrize("payload", [b"", b"\1", b"\5abcd"])
def test_more_padding_than_there_is_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        frames.without_padding(frames.PADDED, memoryview(payload))
