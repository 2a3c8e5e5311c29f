"""What is written of machines: it comes back as it was, or not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmm_ffi.specs import notes, records
from vmm_ffi.spec import ExitNote, VmRecord, decode_exit, decode_record, encode_file

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(records)
def test_a_record_comes_back_as_it_was_written(record: VmRecord) -> None:
    assert decode_record(encode_file(record)) == record


@given(notes)
def test_an_exit_comes_back_as_it_was_written(note: ExitNote) -> None:
    assert decode_exit(encode_file(note)) == note


@given(records | notes, st.data())
def test_a_file_that_ends_early_says_nothing(content: VmRecord | ExitNote, data: st.DataObject) -> None:
    """But for the newline, which is there for people."""
    whole = encode_file(content)
    part = whole[: data.draw(st.integers(0, len(whole) - 2))]
    assert decode_record(part) is None
    assert decode_exit(part) is None


@given(records | notes, st.data())
def test_a_field_of_another_kind_makes_a_file_say_nothing_or_something_legal(
    content: VmRecord | ExitNote, data: st.DataObject
) -> None:
    """Whatever stands in place of any field, nothing is raised, and what comes back is whole."""
    fields = json.loads(encode_file(content))
    inner = data.draw(st.sampled_from([fields, fields["process"]]))
    inner[data.draw(st.sampled_from([*inner, "surprise"]))] = data.draw(JSON)
    damaged = json.dumps(fields).encode()
    for decoded in (decode_record(damaged), decode_exit(damaged)):
        assert decoded is None or type(decoded)(**decoded.to_json() | {"process": decoded.process}) is not None
        if decoded is not None:
            assert decoded.process.pid > 0


@given(st.binary())
@pytest.mark.parametrize("decode", [decode_record, decode_exit])
def test_bytes_say_nothing(decode: type, content: bytes) -> None:
    assert decode(content) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"process": null, "status": 0}',
        b'{"process": {"pid": 1, "start_time": 1, "boot_id": "b"}, "status": 65536}',
        b'{"process": {"pid": 1, "start_time": 1, "boot_id": "b"}, "status": true}',
        b'{"process": {"pid": -1, "start_time": 1, "boot_id": "b"}, "status": 0}',
        b'{"process": {"pid": 1, "start_time": 1, "boot_id": "b"}, "keeper": null, "sockets": "../up"}',
        b'{"process": {"pid": 1, "start_time": 1, "boot_id": 7}, "keeper": null, "sockets": "/run/a"}',
    ],
)
def test_what_no_keeper_wrote_says_nothing(content: bytes) -> None:
    assert decode_record(content) is None
    assert decode_exit(content) is None
