"""Docker's rules over hostile files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.container.users import Identity, UnknownUser, find_identity, read_database

PASSWD = b"""
root:x:0:0:root:/root:/bin/sh
# comment:x:5:5::/:/bin/sh
daemon:x:1:1:daemon:/usr/sbin
alice:x:1000:100:Alice:/home/alice:/bin/sh
1000:x:2000:2000:confusing:/home/number:/bin/sh
alice:x:3000:3000:the second one:/:/bin/sh
homeless:x:7:7:::
"""
GROUP = b"root:x:0:\nusers:x:100:\nwheel:x:10:root,alice\naudio:x:29:alice,homeless\nshort:x:30\n"


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", Identity(0, 0, (0, 10), "/root")),
        ("root", Identity(0, 0, (0, 10), "/root")),
        ("alice", Identity(1000, 100, (100, 10, 29), "/home/alice")),
        ("1000", Identity(1000, 100, (100, 10, 29), "/home/alice")),
        ("alice:", Identity(1000, 100, (100, 10, 29), "/home/alice")),
        ("alice:wheel", Identity(1000, 10, (10,), "/home/alice")),
        ("alice:55", Identity(1000, 55, (55,), "/home/alice")),
        ("12345", Identity(12345, 0, (0,), "/")),
        ("12345:67890", Identity(12345, 67890, (67890,), "/")),
        (":wheel", Identity(0, 10, (10,), "/root")),
        ("daemon", Identity(1, 1, (1,), "/usr/sbin")),
        ("homeless", Identity(7, 7, (7, 29), "/")),
        ("root:short", Identity(0, 30, (30,), "/root")),
        ("2147483647", Identity(2147483647, 0, (0,), "/")),
    ],
)
def test_as_docker_does_it(user: str, identity: Identity) -> None:
    """The first entry counts; what looks like a number is one; an explicit group replaces the others."""
    assert find_identity(user, PASSWD, GROUP) == identity


@pytest.mark.parametrize(
    "user", ["bob", "alice:nobody", "2147483648", "99999999999999999999999", "-1", "0x10", "１", "#", "root:-1", "x\n"]
)
def test_who_is_not_there_is_named(user: str) -> None:
    with pytest.raises(UnknownUser, match=r"/etc/(passwd|group)|is not between"):
        find_identity(user, PASSWD, GROUP)


def test_without_files_numbers_still_work() -> None:
    assert find_identity("", b"", b"") == Identity(0, 0, (0,), "/")
    assert find_identity("5:6", b"", b"") == Identity(5, 6, (6,), "/")
    with pytest.raises(UnknownUser):
        find_identity("root", b"", b"")


@given(st.binary(max_size=300), st.binary(max_size=300), st.sampled_from(["", "a", "0", "a:b", "1:2"]))
def test_any_bytes_give_valid_ids_or_an_error(passwd: bytes, group: bytes, user: str) -> None:
    try:
        identity = find_identity(user, passwd, group)
    except UnknownUser:
        return
    assert all(0 <= number < 2**31 for number in (identity.uid, identity.gid, *identity.groups))


def test_ids_out_of_range_in_the_files_are_passed_over() -> None:
    passwd = b"evil:x:99999999999:0::/:\nevil:x:-1:0::/:\nevil:x:5:4294967296::/:\nevil:x:6:6::/h:\n"
    assert find_identity("evil", passwd, b"g:x:4294967295:evil\n") == Identity(6, 6, (6,), "/h")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """Not even opened for long: a pipe or a device would hold up everything."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "file").write_bytes(b"content")
    assert read_database(str(tmp_path / "pipe")) == b""
    assert read_database(str(tmp_path / "zero")) == b""
    assert read_database(str(tmp_path)) == b""
    assert read_database(str(tmp_path / "absent")) == b""
    assert read_database(str(tmp_path / "file")) == b"content"
