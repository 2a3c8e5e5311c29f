"""The JSON forms of what is stored: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.boxes.options import BoxOptions
from boxlite.store.codec import (
    Card,
    Undecodable,
    decode_card,
    decode_config,
    decode_options,
    decode_vm,
    encode_card,
    encode_config,
    encode_options,
    encode_vm,
)
from tests.store.boxes import FULL, VM, options

_DECODERS: tuple[Callable[[str], object], ...] = (decode_options, decode_config, decode_vm, decode_card)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(options)
def test_options_come_back_as_they_were(wanted: BoxOptions) -> None:
    assert decode_options(encode_options(wanted)) == wanted
    card = Card("0123456789abcdef", wanted, 1.5, auto_remove=wanted.detached, image=FULL.image)
    assert decode_card(encode_card(card)) == card


def test_a_configuration_and_a_record_come_back_as_they_were() -> None:
    assert FULL.config is not None
    assert decode_config(encode_config(FULL.config)) == FULL.config
    assert decode_vm(encode_vm(VM)) == VM


def test_every_field_of_the_options_is_written() -> None:
    """A field that is added to `BoxOptions` and not to the codec would be lost in silence."""
    assert set(json.loads(encode_options(FULL.options))) == {field.name for field in BoxOptions.__attrs_attrs__}


def test_the_text_is_ascii_whatever_the_host_s_names_are() -> None:
    assert encode_options(FULL.options).isascii()


@given(st.text() | _json.map(json.dumps))
def test_anything_else_is_refused_and_nothing_crashes(text: str) -> None:
    for decode in _DECODERS:
        with pytest.raises(Undecodable):
            decode(text)


@given(st.data())
def test_a_member_of_another_value_is_refused_or_means_what_it_says(data: st.DataObject) -> None:
    """One changed member, a missing one, and one too many: never a crash, and nothing that is not what was written."""
    document: dict[str, Any] = json.loads(encode_options(FULL.options))
    name = data.draw(st.sampled_from(sorted(document)))
    changed = document | {name: data.draw(_json)}
    with suppress(Undecodable):
        assert json.loads(encode_options(decode_options(json.dumps(changed)))) == changed
    del document[name]
    if name == "volumes":
        assert decode_options(json.dumps(document)) == attrs.evolve(FULL.options, volumes=())
        return
    with pytest.raises(Undecodable, match=name):
        decode_options(json.dumps(document))


@given(st.data())
def test_a_member_of_a_volume_is_refused_or_means_what_it_says(data: st.DataObject) -> None:
    document: dict[str, Any] = json.loads(encode_options(FULL.options))
    volume = document["volumes"][1]
    name = data.draw(st.sampled_from(sorted(volume)))
    volume[name] = data.draw(_json | st.sampled_from(["/a/", "//a", "/a/../b", "a", "/proc", "/", "/a\0"]))
    with suppress(Undecodable):
        assert json.loads(encode_options(decode_options(json.dumps(document)))) == document
    del volume[name]
    with pytest.raises(Undecodable, match=name):
        decode_options(json.dumps(document))


def test_a_member_that_this_version_does_not_write_is_named() -> None:
    document = json.loads(encode_options(FULL.options)) | {"network": True}
    with pytest.raises(Undecodable, match="network"):
        decode_options(json.dumps(document))


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    for decode in _DECODERS:
        with pytest.raises(Undecodable):
            decode("[" * 100_000)


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity", "1" + "0" * 400])
def test_a_card_of_no_time_is_refused(number: str) -> None:
    """JSON's numbers have no bound; those of times have."""
    text = encode_card(Card("0", FULL.options, 1.5)).replace('"created_at":1.5', f'"created_at":{number}')
    assert number in text
    with pytest.raises(Undecodable):
        decode_card(text)


def test_a_card_of_another_version_is_refused_by_its_version() -> None:
    document = json.loads(encode_card(Card("0", FULL.options, 1.0))) | {"version": 4}
    with pytest.raises(Undecodable, match="version 4"):
        decode_card(json.dumps(document))


def test_a_card_of_an_older_version_is_that_of_a_box_to_keep_whose_image_is_not_known() -> None:
    document = json.loads(encode_card(Card("0", FULL.options, 1.0, image=FULL.image))) | {"version": 2}
    del document["image"]
    assert decode_card(json.dumps(document)) == Card("0", FULL.options, 1.0, image=None)
    document |= {"version": 1}
    del document["auto_remove"]
    assert decode_card(json.dumps(document)) == Card("0", FULL.options, 1.0, auto_remove=False)
    # What it could not have written is not guessed at.
    with pytest.raises(Undecodable):
        decode_card(json.dumps(document | {"surplus": 1}))
