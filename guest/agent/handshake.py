"""The guest's half of the greeting that comes before HTTP/2; `proto.greeting` has the rules and the reasons."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast

from guest.agent.transport import DescriptorTransport
from proto.greeting import GREETING, HELLO, PREFACE, TOKEN_LENGTH

_EXPECTED = re.compile(b"%b[0-9a-f]{%d}\n|%b" % (re.escape(HELLO), TOKEN_LENGTH, re.escape(PREFACE)))
_LONGEST = len(HELLO) + TOKEN_LENGTH + 1


class Handshake(asyncio.Protocol):
    """Greets the host, and hands the transport over to the protocol that `http2` makes when the host begins."""

    def __init__(self, http2: Callable[[], asyncio.Protocol]) -> None:
        self._http2 = http2
        self._unread = b""
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The host is at the other end."""
        self._transport = cast(DescriptorTransport, transport)
        self._transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """Skips what is left of the connection before."""
        self._unread += data
        while expected := _EXPECTED.search(self._unread):
            if expected[0] == PREFACE and self._answered:
                self._begin(self._unread[expected.start() :])
                return
            if expected[0] != PREFACE:
                self._transport.write(expected[0])
                self._answered = True
            self._unread = self._unread[expected.end() :]
        self._unread = self._unread[-_LONGEST:]

    def _begin(self, data: bytes) -> None:
        protocol = self._http2()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)
