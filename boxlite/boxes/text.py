"""Text for the guest, in the bytes that its kernel takes. Pure: no I/O.

Each function raises `InvalidCommand` for what no command could receive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TypeAlias

from boxlite.errors import InvalidCommand

Text: TypeAlias = str | bytes | os.PathLike[str]
"""Text for the guest: str is encoded as Python encodes file names (UTF-8, surrogateescape), bytes go as they are."""


def encode(what: str, value: Text) -> bytes:
    """The bytes of one argument, path or the like; `what` names it in the error."""
    try:
        encoded = os.fsencode(value)
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidCommand(f"the {what} {value!r} is no text for a command: {error}") from error
    if b"\0" in encoded:
        raise InvalidCommand(f"the {what} {value!r} contains a NUL byte, which no command can receive")
    return encoded


def encode_variables(env: Mapping[str, str]) -> dict[bytes, bytes]:
    """The names and values of an environment."""
    encoded = {}
    for name, value in env.items():
        key = encode("name of an environment variable", name)
        if not key or b"=" in key:
            raise InvalidCommand(f"{name!r} is no name for an environment variable: it is empty or contains '='")
        encoded[key] = encode(f"value of the environment variable {name}", value)
    return encoded


def check_user(user: str) -> None:
    """Takes what can be a user, by its form alone: whether the box has one, the guest knows."""
    # A lone surrogate cannot travel: the protocol's strings are UTF-8.
    if re.search(r"[\0\n\ud800-\udfff]", user):
        raise InvalidCommand(f"the user {user!r} has a character that no user's name can have")
