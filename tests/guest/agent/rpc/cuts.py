"""Bytes arrive in whatever pieces."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st


def cut(data: st.DataObject, stream: bytes) -> list[bytes]:
    """The stream in pieces that Hypothesis chooses, none of them empty."""
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    edges = sorted({0, *places, len(stream)})
    return [stream[begin:end] for begin, end in pairwise(edges)]
