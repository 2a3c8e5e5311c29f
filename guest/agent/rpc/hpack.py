"""HPACK, the compression of HTTP/2's headers (RFC 7541)."""

from __future__ import annotations

Header = tuple[str, str]

_TABLE_SIZE = 4096
"""Bytes that the dynamic table takes at most, by this module's count and RFC 7540, 6.5.2: the initial value."""

_OVERHEAD = 32
"""Bytes that each entry counts beside its name and value (4.1)."""

_MAX_INTEGER_BITS = 28


class HpackError(ValueError):
    """The bytes are no header block. The connection cannot go on: the tables may differ."""


class Decoder:
    """Decodes the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        self._entries: list[Header] = []  # of the dynamic table, the newest first
        self._size = 0
        self._max_size = _TABLE_SIZE

    def decode(self, block: bytes) -> list[Header]:
        """The headers of a whole block. Raises `HpackError`."""
        headers: list[Header] = []
        position = 0
        try:
            while position < len(block):
                first = block[position]
                if first & 0x80:  # indexed (6.1)
                    index, position = _integer(block, position, 7)
                    headers.append(self._entry(index))
                elif first & 0x40:  # literal, to be kept (6.2.1)
                    header, position = self._literal(block, position, 6)
                    headers.append(header)
                    self._add(header)
                elif first & 0x20:  # a new size of the table (6.3)
                    size, position = _integer(block, position, 5)
                    if headers or size > _TABLE_SIZE:
                        raise HpackError("the size of the table changes within a block, or beyond its limit")
                    self._max_size = size
                    self._evict()
                else:  # literal, not to be kept (6.2.2, 6.2.3)
                    header, position = self._literal(block, position, 4)
                    headers.append(header)
        except (IndexError, UnicodeDecodeError) as error:
            raise HpackError(f"a header block is damaged: {error}") from None
        return headers

    def _literal(self, block: bytes, position: int, prefix: int) -> tuple[Header, int]:
        index, position = _integer(block, position, prefix)
        if index:
            name = self._entry(index)[0]
        else:
            name, position = _string(block, position)
        value, position = _string(block, position)
        return (name, value), position

    def _entry(self, index: int) -> Header:
        if index == 0:
            raise HpackError("there is no entry 0")
        if index <= len(STATIC_TABLE):
            return STATIC_TABLE[index - 1]
        return self._entries[index - len(STATIC_TABLE) - 1]

    def _add(self, header: Header) -> None:
        self._entries.insert(0, header)
        self._size += _size(header)
        self._evict()

    def _evict(self) -> None:
        while self._size > self._max_size:
            self._size -= _size(self._entries.pop())


def literal(name: bytes, value: bytes) -> bytes:
    """A header that neither side keeps, without compression (6.2.2)."""
    return b"\x00" + _encoded_length(len(name)) + name + _encoded_length(len(value)) + value


def indexed(header: Header) -> bytes:
    """A header of the static table (6.1)."""
    return bytes((0x80 | STATIC_TABLE.index(header) + 1,))


NO_TABLE = b"\x20"
"""At the beginning of a block: the encoder keeps no dynamic table (6.3)."""


def _size(header: Header) -> int:
    return len(header[0]) + len(header[1]) + _OVERHEAD


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """The integer of which the first byte holds `prefix` bits (5.1), and the position after it."""
    limit = (1 << prefix) - 1
    value = block[position] & limit
    position += 1
    if value < limit:
        return value, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
        if shift >= _MAX_INTEGER_BITS:
            raise HpackError("an integer is too large")


def _string(block: bytes, position: int) -> tuple[str, int]:
    """The string (5.2), and the position after it."""
    huffman = block[position] & 0x80
    length, position = _integer(block, position, 7)
    end = position + length
    if end > len(block):
        raise HpackError(f"a string of {length} bytes, of which {len(block) - position} are there")
    if not huffman:
        return str(block[position:end], "latin-1"), end
    # The host sends each such string once, and later its index: the code for it is not loaded where nobody does.
    from guest.agent.rpc.huffman import InvalidCode, decode

    try:
        return str(decode(block[position:end]), "latin-1"), end
    except InvalidCode as error:
        raise HpackError(str(error)) from None


def _encoded_length(length: int) -> bytes:
    if length < 0x7F:
        return bytes((length,))
    rest = length - 0x7F
    encoded = bytearray(b"\x7f")
    while rest >= 0x80:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


# Appendix A.
STATIC_TABLE: tuple[Header, ...] = (
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
)
