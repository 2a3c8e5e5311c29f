"""The server's side of HTTP/2, against the client's side that the host uses."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.rpc import frames
from guest.agent.rpc.connection import (
    CONNECTION_WINDOW,
    DRAINED,
    ENDED,
    OPENED,
    RECEIVED,
    RESET,
    STREAM_WINDOW,
    Connection,
    Event,
)
from guest.agent.rpc.frames import ProtocolError
from guest.agent.rpc.hpack import indexed, literal
from proto.greeting import PREFACE
from proto.greeting import RESET as ZEROS
from tests.guest.agent.rpc.cuts import cut

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), (":authority", "x"), ("te", "trailers")]
OK = indexed((":status", "200"))
END = literal(b"grpc-status", b"0")


def taken(server: Connection) -> bytes:
    return b"".join(server.take())


def send(server: Connection, stream: int, data: bytes) -> bool:
    """In two pieces."""
    half = len(data) // 2
    return server.send_data(stream, [data[:half], data[half:]], len(data))


class Pair:
    """A client by h2, and the server, with nothing between them."""

    def __init__(self) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.server = Connection()
        self.client.initiate_connection()
        self.to_server()
        self.to_client()

    def to_server(self) -> list[Event]:
        return self.server.receive(self.client.data_to_send())

    def to_client(self) -> list[h2.events.Event]:
        events = self.client.receive_data(taken(self.server))
        self.server.receive(self.client.data_to_send())
        return events

    def open(self, *, end: bool = False) -> int:
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, REQUEST, end_stream=end)
        self.to_server()
        return stream


@pytest.fixture
def pair() -> Pair:
    return Pair()


def described(events: list[Event]) -> list[tuple[Any, ...]]:
    """The events, with the data of each stream that came in one go as one."""
    described: list[tuple[Any, ...]] = []
    for event in events:
        if event.kind == OPENED:
            described.append((OPENED, event.stream, event.headers))
        elif event.kind != RECEIVED:
            described.append((event.kind, event.stream))
        elif described and described[-1][:2] == (RECEIVED, event.stream):
            described[-1] = (RECEIVED, event.stream, described[-1][2] + event.data)
        else:
            described.append((RECEIVED, event.stream, bytes(event.data)))
    return described


@given(st.data(), st.lists(st.binary(min_size=1, max_size=200), max_size=4))
def test_requests_are_read_however_they_are_cut(data: st.DataObject, bodies: list[bytes]) -> None:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    client.send_headers(1, REQUEST)
    for body in bodies:
        client.send_data(1, body)
    client.end_stream(1)
    client.send_headers(3, REQUEST, end_stream=True)
    server = Connection()
    events = [event for piece in cut(data, client.data_to_send()) for event in server.receive(piece)]
    received = [(RECEIVED, 1, b"".join(bodies))] if bodies else []
    assert described(events) == [(OPENED, 1, REQUEST), *received, (ENDED, 1), (OPENED, 3, REQUEST), (ENDED, 3)]


def test_headers_may_need_several_frames(pair: Pair) -> None:
    headers = [*REQUEST, ("x-long", "x" * 40_000)]
    pair.client.send_headers(1, headers, end_stream=True)
    assert described(pair.to_server()) == [(OPENED, 1, headers), (ENDED, 1)]


def test_a_reply_reaches_the_client(pair: Pair) -> None:
    stream = pair.open(end=True)
    pair.server.send_headers(stream, OK)
    assert send(pair.server, stream, b"reply")
    pair.server.close(stream, END)
    kinds = [type(event) for event in pair.to_client()]
    assert kinds == [
        *(h2.events.ResponseReceived, h2.events.DataReceived, h2.events.TrailersReceived),
        h2.events.StreamEnded,
    ]


def test_a_reply_before_the_end_of_the_request_tells_the_client_to_stop(pair: Pair) -> None:
    """And what the client still sends is ignored: it did not know."""
    stream = pair.open()
    pair.server.close(stream, OK + END)
    _, reset = parse(taken(pair.server))
    assert isinstance(reset, RstStreamFrame)
    assert (reset.stream_id, reset.error_code) == (stream, frames.NO_ERROR)
    pair.client.send_data(stream, b"more", end_stream=True)
    assert pair.to_server() == []


@given(st.lists(st.integers(0, 300_000), max_size=4), st.lists(st.integers(1, 100_000), max_size=10))
def test_data_is_sent_as_far_as_the_clients_windows_go_and_all_of_it_in_the_end(
    sizes: list[int], increments: list[int]
) -> None:
    pair = Pair()
    stream = pair.open()
    pair.server.send_headers(stream, OK)
    allowed = received = 0
    allowed = 65_535
    for size in sizes:
        sent = send(pair.server, stream, bytes(size))
        while not sent:
            received += sum(len(e.data) for e in pair.to_client() if isinstance(e, h2.events.DataReceived))
            assert received == allowed
            more = increments.pop() if increments else 500_000
            allowed += more
            pair.client.increment_flow_control_window(more, stream)
            pair.client.increment_flow_control_window(more)
            sent = any(event.kind == DRAINED for event in pair.to_server())
        received += sum(len(e.data) for e in pair.to_client() if isinstance(e, h2.events.DataReceived))
    assert received == sum(sizes)


def test_a_smaller_window_of_the_client_counts_for_open_streams(pair: Pair) -> None:
    stream = pair.open()
    pair.server.send_headers(stream, OK)
    pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    pair.to_server()
    assert not send(pair.server, stream, bytes(100))
    assert [len(e.data) for e in pair.to_client() if isinstance(e, h2.events.DataReceived)] == [10]
    pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 200})
    assert described(pair.to_server()) == [(DRAINED, stream)]


def test_frames_are_as_long_as_the_client_takes_them(pair: Pair) -> None:
    def lengths() -> list[int]:
        assert send(pair.server, pair.open(), bytes(20_000))
        return [len(frame.data) for frame in parse(taken(pair.server)) if isinstance(frame, DataFrame)]

    assert lengths() == [16_384, 3_616]
    pair.client.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: 65_536})
    pair.to_server()
    assert lengths() == [20_000]


def test_one_stream_that_waits_holds_up_no_other(pair: Pair) -> None:
    slow, fast = pair.open(), pair.open()
    pair.client.increment_flow_control_window(1 << 20)
    pair.to_server()
    assert not send(pair.server, slow, bytes(100_000))
    assert send(pair.server, fast, bytes(60_000))


def test_a_client_that_resets_a_stream_gets_no_more_of_it(pair: Pair) -> None:
    stream = pair.open()
    pair.client.reset_stream(stream)
    assert described(pair.to_server()) == [(RESET, stream)]
    pair.server.send_headers(stream, OK)
    assert send(pair.server, stream, bytes(1 << 20))
    pair.server.close(stream, END)
    assert taken(pair.server) == b""


def test_the_client_may_send_a_window_and_more_once_it_is_acknowledged(pair: Pair) -> None:
    stream = pair.open()
    assert pair.client.local_flow_control_window(stream) == STREAM_WINDOW
    pair.client.send_data(stream, bytes(16_384))
    pair.to_server()
    pair.server.acknowledge(stream, 16_384)
    assert taken(pair.server) == b""  # Not worth a frame yet.
    pair.server.acknowledge(stream, STREAM_WINDOW // 2)
    pair.to_client()
    assert pair.client.local_flow_control_window(stream) == STREAM_WINDOW + STREAM_WINDOW // 2


def test_the_connections_window_is_kept_open_whoever_reads(pair: Pair) -> None:
    """Not even data of streams that are closed uses it up."""
    stream = pair.open()
    pair.server.close(stream, OK + END)
    for _ in range(2 * CONNECTION_WINDOW // frames.MAX_PAYLOAD):
        pair.server.receive(DataFrame(stream, bytes(frames.MAX_PAYLOAD)).serialize())
    updates = [frame for frame in parse(taken(pair.server)) if isinstance(frame, WindowUpdateFrame)]
    assert sum(frame.window_increment for frame in updates) == 2 * CONNECTION_WINDOW
    assert len(updates) == 4


def parse(data: bytes) -> list[Frame]:
    parsed: list[Frame] = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        parsed.append(frame)
        data = data[9 + length :]
    return parsed


def test_pings_are_answered_and_answers_are_not(pair: Pair) -> None:
    pair.client.ping(b"12345678")
    assert pair.to_server() == []
    assert [type(event) for event in pair.to_client()] == [h2.events.PingAckReceived]
    pair.server.receive(PingFrame(0, b"12345678", flags=["ACK"]).serialize())
    assert taken(pair.server) == b""


def test_a_table_that_the_client_makes_smaller_is_left_unused(pair: Pair) -> None:
    pair.server.receive(SettingsFrame(0, {SettingsFrame.HEADER_TABLE_SIZE: 0}).serialize())
    taken(pair.server)
    stream = pair.open()
    pair.server.send_headers(stream, OK)
    (headers,) = parse(taken(pair.server))
    assert isinstance(headers, HeadersFrame)
    assert headers.data == b"\x20" + OK


def test_advice_goodbyes_and_unknown_frames_are_ignored(pair: Pair) -> None:
    unknown = b"\0\0\3\x7f\0\0\0\0\1abc"
    assert pair.server.receive(PriorityFrame(1).serialize() + GoAwayFrame(0).serialize() + unknown) == []
    assert taken(pair.server) == b""


def test_trailers_of_the_client_end_its_stream(pair: Pair) -> None:
    stream = pair.open()
    pair.client.send_headers(stream, [("x-trailer", "1")], end_stream=True)
    assert described(pair.to_server()) == [(ENDED, stream)]


def headers(stream: int, block: bytes = OK, *flags: str) -> bytes:
    return HeadersFrame(stream, block, flags=flags or ["END_HEADERS"]).serialize()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(ZEROS, frames.PROTOCOL_ERROR, id="the zeros of a host that begins anew"),
        pytest.param(DataFrame(5, b"x").serialize(), frames.PROTOCOL_ERROR, id="data of a stream that is not open"),
        pytest.param(RstStreamFrame(5).serialize(), frames.PROTOCOL_ERROR, id="a reset of one"),
        pytest.param(WindowUpdateFrame(5, 1).serialize(), frames.PROTOCOL_ERROR, id="a window of one"),
        pytest.param(headers(2), frames.PROTOCOL_ERROR, id="a stream of the server's"),
        pytest.param(frames.frame(1, 4, 0, OK), frames.PROTOCOL_ERROR, id="headers of the connection"),
        pytest.param(headers(1) + headers(1), frames.PROTOCOL_ERROR, id="headers twice"),
        pytest.param(headers(5, b"\xff"), frames.COMPRESSION_ERROR, id="headers that are damaged"),
        pytest.param(headers(5, OK, "END_STREAM") + headers(5), frames.PROTOCOL_ERROR, id="headers not continued"),
        pytest.param(
            headers(5, OK, "END_STREAM") + ContinuationFrame(7, OK).serialize(),
            frames.PROTOCOL_ERROR,
            id="headers continued elsewhere",
        ),
        pytest.param(ContinuationFrame(1, OK).serialize(), frames.PROTOCOL_ERROR, id="a continuation of nothing"),
        pytest.param(
            headers(5, bytes(16_384), "END_STREAM") + ContinuationFrame(5, bytes(16_384)).serialize() * 4,
            frames.ENHANCE_YOUR_CALM,
            id="headers without end",
        ),
        pytest.param(
            headers(1, OK, "END_HEADERS", "END_STREAM") + DataFrame(1, b"x").serialize(),
            frames.PROTOCOL_ERROR,
            id="data after the end",
        ),
        pytest.param(
            headers(1) + DataFrame(1, bytes(16_384)).serialize() * (STREAM_WINDOW // 16_384 + 1),
            frames.FLOW_CONTROL_ERROR,
            id="more data than the window",
        ),
        pytest.param(WindowUpdateFrame(0, 2**31 - 1).serialize(), frames.FLOW_CONTROL_ERROR, id="an endless window"),
        pytest.param(frames.frame(8, 0, 0, bytes(4)), frames.PROTOCOL_ERROR, id="a window that does not grow"),
        pytest.param(frames.frame(4, 0, 0, b"\0\4" + b"\xff" * 4), frames.FLOW_CONTROL_ERROR, id="endless windows"),
        pytest.param(frames.frame(4, 0, 0, b"\0\5" + bytes(4)), frames.PROTOCOL_ERROR, id="frames of no length"),
        pytest.param(frames.frame(4, 1, 0, bytes(6)), frames.FRAME_SIZE_ERROR, id="an answer with settings"),
        pytest.param(frames.frame(4, 0, 1, b""), frames.PROTOCOL_ERROR, id="settings of a stream"),
        pytest.param(frames.frame(6, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR, id="a short ping"),
        pytest.param(frames.frame(1, 0x24, 5, bytes(4)), frames.FRAME_SIZE_ERROR, id="a short priority"),
        pytest.param(PushPromiseFrame(1, 2, OK).serialize(), frames.PROTOCOL_ERROR, id="a promise"),
        pytest.param(b"\0\x40\1\0\0\0\0\0\1", frames.FRAME_SIZE_ERROR, id="a frame that is too long"),
    ],
)
def test_what_breaks_the_rules_ends_the_connection_with_the_reason(pair: Pair, data: bytes, code: int) -> None:
    taken(pair.server)
    with pytest.raises(ProtocolError) as broken:
        pair.server.receive(data)
    assert broken.value.code == code
    goodbye = parse(taken(pair.server))[-1]
    assert isinstance(goodbye, GoAwayFrame)
    assert goodbye.error_code == code


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nXX"])
def test_what_does_not_begin_as_http2_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Connection().receive(data)


def test_settings_come_first() -> None:
    with pytest.raises(ProtocolError):
        Connection().receive(PREFACE + PingFrame(0, bytes(8)).serialize())
    with pytest.raises(ProtocolError):
        Connection().receive(PREFACE + SettingsFrame(0, flags=["ACK"]).serialize())


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_whatever_bytes_are_taken_or_refused(pieces: list[bytes]) -> None:
    pair = Pair()
    pair.open()
    try:
        for piece in pieces:
            pair.server.receive(piece)
    except ProtocolError:
        pass


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=9)), max_size=8)
)
def test_whatever_frames_are_taken_or_refused(sent: list[tuple[int, int, int, bytes]]) -> None:
    pair = Pair()
    pair.open()
    try:
        for kind, flags, stream, payload in sent:
            pair.server.receive(frames.frame(kind, flags, stream, payload))
    except ProtocolError:
        pass
