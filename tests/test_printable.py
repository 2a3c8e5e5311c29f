from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.printable import printable


@given(st.binary())
def test_nothing_that_a_terminal_obeys_is_printable(raw: bytes) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in printable(raw))


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert printable(text.encode()) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;new title\x07after", "after"),
        (b"\x1b]52;c;clipboard\x1b\\after", "after"),
        (b"\x1bcreset", "reset"),
        (b"\x9b31mC1", "�31mC1"),
        ("\x9b31mC1".encode(), "31mC1"),
        ("right\u202eleft".encode(), "rightleft"),
        (b"beep\x07\x08\x7f", "beep"),
        (b"cut \xe2\x82", "cut �"),
        (b"\x1b", ""),
    ],
)
def test_escape_sequences_and_invisible_characters_are_left_out(raw: bytes, text: str) -> None:
    assert printable(raw) == text
