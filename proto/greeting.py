"""How host and guest find together on a byte stream, below HTTP/2, whatever is left in it of the connection before.

1. The guest, whenever it has opened its end, writes `GREETING`, and from then on skips what is neither a hello nor,
   after a hello, HTTP/2's preface.
2. The host, whenever it is connected, writes `RESET` and a hello; and another hello after each `GREETING`, because
   what came before that may be lost. Every hello has a token of its own.
3. The guest writes each hello back. The host skips what comes before the echo of its newest hello; then it begins
   HTTP/2.

An agent that missed the end of the connection before still speaks HTTP/2. Wherever in a frame it is, `RESET` breaks the
rules: the agent ends that connection, opens its end again, and greets.
"""

GREETING = b"boxlite-agent\n"

RESET = bytes(20 << 10)
"""Longer than the largest frame of HTTP/2 (RFC 9113, 4.2: 16384 bytes unless agreed), and no beginning of one: zeros
would be DATA of stream 0, which is a connection error (6.1)."""

HELLO = b"boxlite-hello "
"""Then the token, in `TOKEN_LENGTH` hexadecimal digits, and a line feed."""

TOKEN_LENGTH = 32

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""With which a client begins HTTP/2 (RFC 9113, 3.4)."""


def hello(token: str) -> bytes:
    """The line that the host sends and the guest echoes."""
    return HELLO + token.encode() + b"\n"
