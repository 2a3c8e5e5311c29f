"""What hostile machines print, made safe to show."""

from __future__ import annotations

import re

_CONTROL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -~])")


def printable(raw: bytes | bytearray) -> str:
    """The text of `raw`, safe to show on a terminal.

    What a guest prints is hostile: escape sequences can retitle, repaint and answer in the user's name, and
    invisible characters can reorder a line. Of the characters that do not print, newline and tab remain.
    """
    text = _CONTROL_SEQUENCE.sub("", raw.decode(errors="replace"))
    return "".join(character for character in text if character.isprintable() or character in "\n\t")
