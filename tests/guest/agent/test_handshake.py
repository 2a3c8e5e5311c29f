"""The agent finds together with a host whatever is left on the wire of the connection before."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.handshake import Handshake
from guest.agent.transport import DescriptorTransport
from proto.greeting import GREETING, PREFACE, RESET, hello

if TYPE_CHECKING:
    pass

HELLO = hello("0123456789abcdef" * 2)
OTHER = hello("f" * 32)


class Transport:
    """Remembers what was written and who has it."""

    def __init__(self) -> None:
        self.written = b""
        self.protocol: Http2 | None = None

    def write(self, data: bytes) -> None:
        self.written += data

    def set_protocol(self, protocol: Http2) -> None:
        self.protocol = protocol


class Http2:
    """Remembers what came."""

    def __init__(self) -> None:
        self.transport: object = None
        self.received = b""

    def connection_made(self, transport: object) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, error: Exception | None) -> None: ...


def feed(data: bytes, size: int) -> tuple[Transport, Http2]:
    """A handshake that gets the data in pieces of this size; what it wrote, and what came through."""
    transport, http2 = Transport(), Http2()
    handshake = Handshake(lambda: http2)
    handshake.connection_made(cast(DescriptorTransport, transport))
    for start in range(0, len(data), size):
        current = handshake if transport.protocol is None else transport.protocol
        current.data_received(data[start : start + size])
    return transport, http2


@given(st.one_of(st.binary(max_size=200), st.just(RESET), st.just(PREFACE * 3)), st.binary(), st.integers(1, 70))
def test_a_hello_is_echoed_and_what_comes_before_it_skipped(left: bytes, frames: bytes, size: int) -> None:
    transport, http2 = feed(left + b"\n" + HELLO + PREFACE + frames, size)
    assert transport.written == GREETING + HELLO
    assert http2.received == PREFACE + frames
    assert http2.transport is transport


@given(st.integers(1, 70))
def test_each_hello_is_echoed(size: int) -> None:
    transport, http2 = feed(RESET + HELLO + OTHER + PREFACE, size)
    assert transport.written == GREETING + HELLO + OTHER
    assert http2.received == PREFACE


@pytest.mark.parametrize("data", [b"", PREFACE, HELLO[:-1], HELLO[:-2] + b"x\n", HELLO.upper()])
def test_without_a_hello_there_is_no_http2(data: bytes) -> None:
    transport, http2 = feed(data + b" " + PREFACE, 1000)
    assert (transport.written, transport.protocol, http2.received) == (GREETING, None, b"")
