"""What was sent can be sent again, as far as it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.boxes.replay import Replay


@given(st.lists(st.binary(max_size=20)), st.integers(0, 30), st.integers(0, 1000))
def test_the_newest_bytes_are_kept(pieces: list[bytes], capacity: int, start: int) -> None:
    replay, sent = Replay(capacity, start), b"".join(pieces)
    for piece in pieces:
        replay.append(piece)
    assert replay.end == start + len(sent)
    assert replay.end - replay.start == min(capacity, len(sent))
    for offset in range(replay.start, replay.end + 1):
        assert replay.since(offset) == sent[offset - start :]


@given(st.binary(max_size=20), st.integers(0, 30))
def test_what_is_not_kept_cannot_be_asked_for(data: bytes, capacity: int) -> None:
    replay = Replay(capacity)
    replay.append(data)
    for offset in (replay.start - 1, replay.end + 1):
        with pytest.raises(ValueError, match="are kept"):
            replay.since(offset)
