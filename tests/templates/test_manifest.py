from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.templates.manifest import BadManifest, FileStamp, Manifest, decode_manifest, encode_manifest
from tests.templates.keys import KEY

STAMPS = st.builds(FileStamp, st.integers(min_value=0), st.integers(), st.text())
MANIFEST = Manifest(KEY, "builtin/python", 1.7e9, {"memory": FileStamp(1 << 28, 5, "ab"), "state": FileStamp(9, 5, "")})


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False), st.dictionaries(st.text(), STAMPS))
def test_what_is_written_is_read(reference: str, created_at: float, files: dict[str, FileStamp]) -> None:
    manifest = Manifest(KEY, reference, created_at, files)
    assert decode_manifest(encode_manifest(manifest)) == manifest


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_anything_else_is_damaged(data: bytes) -> None:
    with pytest.raises(BadManifest):
        decode_manifest(data)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_part_of_one_is_damaged(length: int) -> None:
    with pytest.raises(BadManifest):
        decode_manifest(encode_manifest(MANIFEST)[:length])


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"created_at": "yesterday"},
        {"created_at": 10**400},
        {"reference": 5},
        {"key": {}},
        {"key": None},
        {"files": []},
        {"files": {"memory": {"size": -1, "mtime_ns": 5, "digest": ""}}},
        {"files": {"memory": {"size": True, "mtime_ns": 5, "digest": ""}}},
        {"files": {"memory": {"size": 1, "mtime_ns": "5", "digest": ""}}},
        {"files": {"memory": {"size": 1, "mtime_ns": 5}}},
    ],
)
def test_a_field_that_this_version_does_not_write_is_damaged(change: dict[str, Any]) -> None:
    document = json.loads(encode_manifest(MANIFEST)) | change
    with pytest.raises(BadManifest):
        decode_manifest(json.dumps(document).encode())


def test_json_that_nests_without_end_is_damaged() -> None:
    with pytest.raises(BadManifest):
        decode_manifest(b"[" * 100_000)


def test_times_and_sizes_that_json_writes_but_are_none_are_damaged() -> None:
    with pytest.raises(BadManifest):
        decode_manifest(encode_manifest(MANIFEST).replace(b"1700000000.0", b"NaN"))
