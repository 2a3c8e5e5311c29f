"""What tells one machine from another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.identity import is_machine_id, random_address, set_network_addresses


@given(st.text(max_size=40))
def test_a_machine_id_is_32_lower_case_hexadecimal_digits_or_nothing(text: str) -> None:
    assert is_machine_id(text) == (text == "" or (len(text) == 32 and set(text) <= set("0123456789abcdef")))


def test_the_empty_and_the_longest_machine_id_are_taken() -> None:
    assert is_machine_id("")
    assert is_machine_id("0123456789abcdef" * 2)
    assert not is_machine_id("0123456789abcdef" * 2 + "\n")


def test_random_addresses_are_of_one_station_and_of_no_manufacturer() -> None:
    addresses = {random_address() for _ in range(100)}
    assert len(addresses) == 100
    assert {(len(address), address[0] & 3) for address in addresses} == {(6, 2)}


@pytest.mark.parametrize("address", [bytes(5), bytes(7), b"\x01" + bytes(5)])
def test_what_is_no_address_changes_nothing(address: bytes) -> None:
    with pytest.raises(ValueError, match="six bytes"):
        set_network_addresses({}, address)
