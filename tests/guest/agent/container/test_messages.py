"""Messages between agent and init."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.container.messages import (
    SPAWN_ERRORS,
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
_BYTES = st.binary(max_size=30).map(lambda data: data.replace(b"\0", b"."))
_TEXT = _BYTES.map(lambda data: data.decode(errors="surrogateescape"))
_ITEMS = st.lists(_BYTES, max_size=4)
_MESSAGES: st.SearchStrategy[Request | Report] = st.one_of(
    st.builds(Setup, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _ITEMS),
    st.builds(
        Spawn,
        _NUMBER,
        _ITEMS,
        _ITEMS,
        _BYTES,
        _TEXT,
        _NUMBER,
        _NUMBER,
        terminal=st.booleans(),
        stop_group_on_exit=st.booleans(),
    ),
    st.builds(Signal, _NUMBER, _NUMBER),
    st.builds(Terminate),
    st.builds(Warm),
    st.builds(Rename, _TEXT, _TEXT),
    st.builds(Answered, _TEXT),
    st.builds(Forked, _NUMBER),
    st.builds(Ready),
    st.builds(SetupFailed, _TEXT),
    st.builds(Spawned, _NUMBER, _NUMBER),
    st.builds(SpawnFailed, _NUMBER, st.sampled_from(SPAWN_ERRORS), _TEXT),
    st.builds(Signalled, _NUMBER, st.booleans()),
    st.builds(Exited, _NUMBER, _NUMBER, st.booleans()),
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


@given(_MESSAGES, st.data())
def test_a_message_that_is_cut_short_is_refused(message: Request | Report, data: st.DataObject) -> None:
    """Wherever a field is missing. One that is shorter is another message."""
    parts = encode(message).split(b"\0")
    with pytest.raises(MalformedMessage):
        decode(b"\0".join(parts[: data.draw(st.integers(0, len(parts) - 1))]))


@pytest.mark.parametrize(
    "data",
    [
        b"Exited\0one\x000\x001",
        b"Exited\0-1\x000\x001",
        b"Exited\0+1\x000\x001",
        b"Exited\0 1\x000\x001",
        b"Exited\0\xd9\xa1\x000\x001",  # an Arabic digit
        b"Exited\x001\x000\x002",
        b"Exited\x001\x000\0True",
        b"Exited\x001\x000\x001\x00",
        b"Exited\x001\x000\x001\x00more",
        b"Exited\x00" + b"1" * 21 + b"\x000\x001",
        b"SpawnFailed\x001\0no such error\0message",
        b"Spawn\x001\x00999999999999\0true",
        b"MalformedMessage",
        b"Message",
        b"__class__",
        b"ready",
        b"Ready\0",
        b"\0",
    ],
    ids=repr,
)
def test_fields_of_the_wrong_kind_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


@pytest.mark.parametrize("message", [SetupFailed("a\0b"), Spawn(1, [b"a\0b"], [], b"/", "", 0, 0, False, False)])
def test_what_cannot_travel_is_refused_where_it_begins(message: Request | Report) -> None:
    """A zero byte within a field would be the beginning of another one."""
    with pytest.raises(ValueError, match="zero byte"):
        encode(message)


def test_messages_of_different_kinds_are_never_equal() -> None:
    assert Ended(1) != GroupGone(1)
    assert Ended(1) == Ended(1)
    assert repr(Exited(1, 9, True)) == "Exited(1, 9, True)"
