"""HPACK's Huffman code (RFC 7541, 5.2 and Appendix B)."""

from __future__ import annotations

# The code is canonical: within a length the codes follow the symbols, and a longer code goes on where the shorter ones
# ended. So the lengths, in bits, say all; the last symbol is the end of a string.
_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b08060606"
    "0505050606060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414161616171617171717171817"
    "181816171817171717151617161717181615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a17"
    "1a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_END = len(_LENGTHS) - 1


class InvalidCode(ValueError):
    """The bits are no string."""


def decode(data: bytes) -> bytes:
    """The string. Raises `InvalidCode` where it holds an end, or ends with other than fewer than eight bits of one."""
    symbols = bytearray()
    code = 1  # The bits read so far, after a one: so that codes that begin with zeros differ by their length.
    for byte in data:
        for shift in (7, 6, 5, 4, 3, 2, 1, 0):
            code = code << 1 | byte >> shift & 1
            symbol = _SYMBOLS.get(code)
            if symbol is not None:
                if symbol == _END:
                    raise InvalidCode("a string holds the symbol of its end")
                symbols.append(symbol)
                code = 1
    padding = code.bit_length() - 1
    if padding >= 8 or code != (1 << padding + 1) - 1:
        raise InvalidCode("a string does not end as it must")
    return bytes(symbols)


def _symbols() -> dict[int, int]:
    """The symbols by their codes, each after a one."""
    symbols: dict[int, int] = {}
    code, length = 0, 0
    for symbol in sorted(range(len(_LENGTHS)), key=_LENGTHS.__getitem__):
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        symbols[1 << length | code] = symbol
        code += 1
    return symbols


_SYMBOLS = _symbols()
