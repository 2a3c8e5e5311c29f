"""Messages between agent and init."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.container.messages import (
    Answered,
    Ended,
    Exited,
    Forked,
    GroupGone,
    MalformedMessage,
    Ready,
    Rename,
    Report,
    Request,
    Setup,
    SetupFailed,
    Signal,
    Signalled,
    Spawn,
    Spawned,
    SpawnFailed,
    Terminate,
    Warm,
    decode,
    encode,
)

_NUMBER = st.integers(0, 2**40)
_TEXT = st.binary(max_size=30).map(lambda data: data.decode(errors="surrogateescape"))
_MESSAGES: st.SearchStrategy[Request | Report] = st.one_of(
    st.builds(Setup, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT),
    st.from_type(Spawn),
    st.builds(Signal, _NUMBER, _NUMBER),
    st.builds(Terminate),
    st.builds(Warm),
    st.builds(Rename, _TEXT, _TEXT),
    st.builds(Answered, _TEXT),
    st.builds(Forked, _NUMBER),
    st.builds(Ready),
    st.builds(SetupFailed, _TEXT),
    st.builds(Spawned, _NUMBER, _NUMBER),
    st.from_type(SpawnFailed),
    st.builds(Signalled, _NUMBER, st.booleans()),
    st.builds(Exited, _NUMBER, _NUMBER),
    st.builds(GroupGone, _NUMBER),
    st.builds(Ended, _NUMBER),
)


@given(_MESSAGES)
def test_a_message_survives_the_journey(message: Request | Report) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


@pytest.mark.parametrize(
    "message",
    [
        ["Exited", {"key": "1", "status": 0}],
        ["Exited", {"key": True, "status": 0}],
        ["Exited", {"key": 1}],
        ["Exited", {"key": 1, "status": 0, "more": 1}],
        ["Exited", [1, 0]],
        ["SpawnFailed", {"key": 1, "error": "no such error", "message": ""}],
        ["Spawned", {"key": 1.0, "pid": 1}],
        ["MalformedMessage", {}],
        ["__class__", {}],
        [["Ready"], {}],
        {"Ready": {}},
        ["Ready", {}, 1],
        None,
    ],
    ids=str,
)
def test_fields_of_the_wrong_kind_are_refused(message: object) -> None:
    with pytest.raises(MalformedMessage):
        decode(json.dumps(message).encode())


def test_a_message_that_nests_without_end_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        decode(b"[" * 100_000)
