"""What a server asks for when it refuses: the header WWW-Authenticate (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import attrs

_MAX_CHALLENGES: Final = 20
"""More than any server has ways to prove who one is."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[ \t,]*({_TOKEN})(?:[ \t]+|(?=,)|$)")
_PARAMETER = re.compile(rf'[ \t,]*({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*+)")[ \t]*(?=,|$)')
_TOKEN68 = re.compile(r"([0-9A-Za-z._~+/-]++=*)[ \t]*(?=,|$)")
_ESCAPE = re.compile(r"\\(.)")


@attrs.frozen
class Challenge:
    """One way to prove who one is. Scheme and names of parameters are in small letters."""

    scheme: str
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    """Of a name that is there twice, the first."""
    token: str = ""
    """What some schemes have in place of parameters."""


def parse_challenges(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """The challenges of all headers of that name. What breaks the grammar ends the header that it is in."""
    return tuple(islice((challenge for header in headers for challenge in _parse(header)), _MAX_CHALLENGES))


def _parse(header: str) -> Iterator[Challenge]:
    position = 0
    while match := _SCHEME.match(header, position):
        scheme, position = match[1].lower(), match.end()
        parameters: dict[str, str] = {}
        token = ""
        if found := _TOKEN68.match(header, position):
            token, position = found[1], found.end()
        while match := _PARAMETER.match(header, position):
            value = match[2] if match[2] is not None else _ESCAPE.sub(r"\1", match[3])
            parameters.setdefault(match[1].lower(), value)
            position = match.end()
        yield Challenge(scheme, parameters, token)
