from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmm_ffi.specs import identities, instances, keeps
from vmm_ffi.spec import (
    Exited,
    Failed,
    Kill,
    Spawn,
    Spawned,
    decode_event,
    decode_request,
    encode,
    key_of,
)

keys = st.integers(1, 2**63)
requests = st.builds(Spawn, keys, instances, st.none() | keeps) | st.builds(Kill, keys, st.integers(1, 64))
events = (
    st.builds(Spawned, keys, identities, st.none() | identities)
    | st.builds(Failed, keys, st.text(), st.none() | st.integers(1, 133))
    | st.builds(Exited, keys, st.integers(0, 65535))
)


@given(requests)
def test_a_request_arrives_as_it_was_sent(request_: Spawn | Kill) -> None:
    assert decode_request(encode(request_)) == request_
    assert key_of(encode(request_)) == request_.key


@given(events)
def test_an_event_arrives_as_it_was_sent(event: Spawned | Failed | Exited) -> None:
    assert decode_event(encode(event)) == event


MALFORMED = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"type": "spawn"}',
    b'{"type": "spawn", "key": 1, "spec": null}',
    b'{"type": "spawn", "key": 1, "spec": {}}',
    b'{"type": ["spawn"], "key": 1}',
    b'{"type": "fork", "key": 1}',
    b'{"type": "kill", "key": 1}',
    b'{"type": "kill", "key": 1, "signal": 9, "more": 1}',
    b'{"type": "spawned", "key": 1}',
    b'{"type": "spawned", "key": 1, "process": {"pid": 0, "start_time": 1, "boot_id": ""}}',
    b'{"type": "spawned", "key": 1, "process": 5}',
]


@pytest.mark.parametrize("datagram", MALFORMED)
def test_what_is_no_message_is_refused(datagram: bytes) -> None:
    """By the errors that callers expect, and no other."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode_request(datagram)
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode_event(datagram)
    assert key_of(datagram) in (None, 1)


@given(st.binary())
def test_bytes_are_no_message(datagram: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode_request(datagram)
