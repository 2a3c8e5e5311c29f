"""HPACK, against the package that the host uses."""

from __future__ import annotations

import hpack
import pytest
from hpack.huffman_table import decode_huffman
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.rpc import huffman
from guest.agent.rpc.hpack import NO_TABLE, STATIC_TABLE, Decoder, HpackError, indexed, literal

# The same headers over and over, as of one connection, with now and then another one.
_names = st.sampled_from([":path", ":method", "te", "content-type", "x-own", "cookie"]) | st.text("abc-", min_size=1)
_values = st.sampled_from(["", "/boxlite.v1.Guest/Ping", "POST", "trailers"]) | st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300
)
header_lists = st.lists(st.tuples(_names, _values), max_size=12)


@given(st.lists(st.tuples(header_lists, st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=12))
def test_it_decodes_what_the_hosts_encoder_writes(blocks: list[tuple[list[tuple[str, str]], bool, int | None]]) -> None:
    """One block after the other, with and without Huffman's code, over changes of the table's size."""
    encoder, decoder = hpack.Encoder(), Decoder()
    for headers, compressed, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        assert decoder.decode(encoder.encode(headers, huffman=compressed)) == headers


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_whatever_bytes_are_headers_or_refused(blocks: list[bytes]) -> None:
    """Where both take a block, both read the same from it."""
    ours, theirs = Decoder(), hpack.Decoder()
    for block in blocks:
        try:
            headers = ours.decode(block)
        except HpackError:
            return
        try:
            expected = theirs.decode(block, raw=True)
        except hpack.HPACKError:
            return
        assert headers == [(name.decode("latin-1"), value.decode("latin-1")) for name, value in expected]


@given(st.binary(min_size=1, max_size=300), st.binary(max_size=300))
def test_the_hosts_decoder_reads_literals(name: bytes, value: bytes) -> None:
    assert hpack.Decoder().decode(literal(name, value), raw=True) == [(name, value)]


@pytest.mark.parametrize("header", STATIC_TABLE)
def test_the_hosts_decoder_reads_the_static_table(header: tuple[str, str]) -> None:
    assert list(hpack.Decoder().decode(NO_TABLE + indexed(header), raw=True)) == [
        (header[0].encode(), header[1].encode())
    ]
    assert Decoder().decode(indexed(header)) == [header]


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # entry 0
        b"\xbe",  # the first entry of an empty table
        b"\x40",  # a literal without name
        b"\x00\x01a",  # without value
        b"\x00\x05ab",  # cut off
        b"\xff\xff\xff\xff\xff\x7f",  # an integer of more than 32 bits
        b"\x3f\xe2\x1f",  # a table of 4097 bytes
        b"\x82\x20",  # its size, after a header
        b"\x00\x81\xff\x00",  # Huffman's code with more than an end
    ],
)
def test_a_block_that_breaks_the_rules_is_refused(block: bytes) -> None:
    with pytest.raises(HpackError):
        Decoder().decode(block)


def test_the_oldest_entries_leave_a_full_table() -> None:
    decoder = Decoder()
    kept = b"\x40\x01a" + b"\x7f\xd1\x0e" + b"v" * 2000  # literal with indexing: 2033 bytes each by the table's count
    for _ in range(2):
        decoder.decode(kept)
    assert decoder.decode(b"\xbf") == [("a", "v" * 2000)]
    decoder.decode(b"\x40\x01b\x01c")
    with pytest.raises(HpackError):
        decoder.decode(b"\xc0")
    assert decoder.decode(b"\xbe") == [("b", "c")]


@given(st.binary(max_size=60))
def test_huffmans_code_is_decoded_or_refused_as_by_the_host(data: bytes) -> None:
    try:
        expected = decode_huffman(data)
    except hpack.HPACKError:
        with pytest.raises(huffman.InvalidCode):
            huffman.decode(data)
    else:
        assert huffman.decode(data) == expected
