"""The guest's half of the greeting that comes before HTTP/2; `proto.greeting` has the rules and the reasons."""

from __future__ import annotations

from proto.greeting import GREETING, HELLO, PREFACE, TOKEN_LENGTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from guest.agent.transport import DescriptorTransport, Protocol

_HELLO_LENGTH = len(HELLO) + TOKEN_LENGTH + 1
_DIGITS = frozenset(b"0123456789abcdef")


class Handshake:
    """Greets the host, and hands the transport over to the protocol that `http2` makes when the host begins."""

    def __init__(self, http2: Callable[[], Protocol]) -> None:
        self._http2 = http2
        self._unread = b""
        self._answered = False

    def connection_made(self, transport: DescriptorTransport) -> None:
        """The host is at the other end."""
        self._transport = transport
        transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """Skips what is left of the connection before."""
        self._unread += data
        while (expected := find_expected(self._unread)) is not None:
            start, end = expected
            if not self._unread.startswith(PREFACE, start):
                self._transport.write(self._unread[start:end])
                self._answered = True
            elif self._answered:
                self._begin(self._unread[start:])
                return
            self._unread = self._unread[end:]
        # What is shorter than a hello may be the beginning of one.
        self._unread = self._unread[1 - _HELLO_LENGTH :]

    def pause_writing(self) -> None:
        """Echoes are no more than the host asked for."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def connection_lost(self, error: Exception | None) -> None:
        """The host went before it began."""

    def _begin(self, data: bytes) -> None:
        protocol = self._http2()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)


def find_expected(data: bytes) -> tuple[int, int] | None:
    """Where the first whole hello, or preface of HTTP/2, begins and ends."""
    preface = data.find(PREFACE)
    hello = data.find(HELLO)
    while hello >= 0 and (preface < 0 or hello < preface):
        if _is_hello(data[hello : hello + _HELLO_LENGTH]):
            return hello, hello + _HELLO_LENGTH
        hello = data.find(HELLO, hello + 1)
    return (preface, preface + len(PREFACE)) if preface >= 0 else None


def _is_hello(line: bytes) -> bool:
    token = line[len(HELLO) : -1]
    return len(line) == _HELLO_LENGTH and line.endswith(b"\n") and _DIGITS.issuperset(token)
