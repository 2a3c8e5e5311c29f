"""Reading WWW-Authenticate: what the grammar allows is understood, and nothing else does any harm."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxlite.images.registry.challenge import Challenge, parse_challenges

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"'
TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
TOKENS = st.text(TOKEN_CHARACTERS, min_size=1, max_size=8)
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
SPACE = st.sampled_from(["", " ", "\t", "  "])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            HUB,
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:a/b:pull",
                    },
                )
            ],
        ),
        ('Basic realm="a, b"', [Challenge("basic", {"realm": "a, b"})]),
        (r'Basic realm="a \"b\" \\"', [Challenge("basic", {"realm": r'a "b" \ '.strip()})]),
        ("BASIC REALM=x", [Challenge("basic", {"realm": "x"})]),
        ("Basic realm=x, realm=y", [Challenge("basic", {"realm": "x"})]),
        ("Negotiate", [Challenge("negotiate")]),
        ("Negotiate, Basic realm=x", [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (
            "NTLM TlRMTVNTUAAC==, Basic realm=x",
            [Challenge("ntlm", token="TlRMTVNTUAAC=="), Challenge("basic", {"realm": "x"})],
        ),
        (',, ,Basic realm=x,, charset="UTF-8" ,', [Challenge("basic", {"realm": "x", "charset": "UTF-8"})]),
        (
            'Bearer realm = "x" , Basic  realm="y"',
            [Challenge("bearer", {"realm": "x"}), Challenge("basic", {"realm": "y"})],
        ),
        ("", []),
        (",", []),
        ('"', []),
        ('Bearer realm="never ends', [Challenge("bearer")]),
    ],
)
def test_what_servers_write_is_understood(header: str, expected: list[Challenge]) -> None:
    assert list(parse_challenges([header])) == expected


def test_several_headers_are_like_one() -> None:
    assert parse_challenges(["Negotiate", 'Basic realm="x"']) == parse_challenges(['Negotiate, Basic realm="x"'])


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@settings(max_examples=60)
@given(
    challenges=st.lists(
        st.tuples(TOKENS, st.dictionaries(TOKENS.map(str.lower), TEXTS, min_size=1, max_size=4)), max_size=3
    ),
    data=st.data(),
)
def test_what_the_grammar_allows_is_read_as_it_was_meant(
    challenges: Sequence[tuple[str, dict[str, str]]], data: st.DataObject
) -> None:
    def pair(name: str, value: str) -> str:
        bare = value and all(character in TOKEN_CHARACTERS for character in value) and data.draw(st.booleans())
        equals = data.draw(SPACE) + "=" + data.draw(SPACE)
        return data.draw(st.sampled_from([name, name.upper()])) + equals + (value if bare else quoted(value))

    written = []
    for scheme, parameters in challenges:
        comma = data.draw(SPACE) + "," + data.draw(SPACE)
        written.append(f"{scheme} " + comma.join(pair(name, value) for name, value in parameters.items()))
    read = parse_challenges([", ".join(written)])
    assert [(challenge.scheme, challenge.parameters) for challenge in read] == [
        (scheme.lower(), parameters) for scheme, parameters in challenges
    ]


@given(
    headers=st.lists(st.text(st.sampled_from('ab=", \t\\Basic\r\n\0é'), max_size=60) | st.text(max_size=30), max_size=3)
)
def test_any_header_is_read_without_an_error(headers: Sequence[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme


@pytest.mark.parametrize("piece", ["a ", "a=b,", 'a="', "\\", 'a="\\', "=", ",", "a=", "B a=b, "])
def test_a_long_header_takes_no_long_time(piece: str) -> None:
    """As long as HTTP lets one be. What takes the square of that would not end in the time that a test has."""
    assert len(parse_challenges([piece * (100_000 // len(piece))])) <= 20
