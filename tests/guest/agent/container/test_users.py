"""Docker's rules over hostile files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.container.users import Identity, UnknownUser, Users, find_identity, read_database

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


Found = tuple[int, int, tuple[int, ...], str]


def values(identity: Identity) -> Found:
    return identity.uid, identity.gid, identity.groups, identity.home


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", (0, 0, (0, 10), "/root")),
        ("root", (0, 0, (0, 10), "/root")),
        ("alice", (1000, 100, (100, 10, 29), "/home/alice")),
        ("1000", (1000, 100, (100, 10, 29), "/home/alice")),
        ("alice:", (1000, 100, (100, 10, 29), "/home/alice")),
        ("alice:wheel", (1000, 10, (10,), "/home/alice")),
        ("alice:55", (1000, 55, (55,), "/home/alice")),
        ("12345", (12345, 0, (0,), "/")),
        ("12345:67890", (12345, 67890, (67890,), "/")),
        (":wheel", (0, 10, (10,), "/root")),
        ("daemon", (1, 1, (1,), "/usr/sbin")),
        ("homeless", (7, 7, (7, 29), "/")),
        ("root:short", (0, 30, (30,), "/root")),
        ("2147483647", (2147483647, 0, (0,), "/")),
    ],
)
def test_as_docker_does_it(user: str, identity: Found) -> None:
    """The first entry counts; what looks like a number is one; an explicit group replaces the others."""
    assert values(find_identity(user, PASSWD, GROUP)) == identity


@pytest.mark.parametrize(
    "user", ["bob", "alice:nobody", "2147483648", "99999999999999999999999", "-1", "0x10", "１", "#", "root:-1", "x\n"]
)
def test_who_is_not_there_is_named(user: str) -> None:
    with pytest.raises(UnknownUser, match=r"/etc/(passwd|group)|is not between"):
        find_identity(user, PASSWD, GROUP)


def test_without_files_numbers_still_work() -> None:
    assert values(find_identity("", b"", b"")) == (0, 0, (0,), "/")
    assert values(find_identity("5:6", b"", b"")) == (5, 6, (6,), "/")
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
    assert values(find_identity("evil", passwd, b"g:x:4294967295:evil\n")) == (6, 6, (6,), "/h")


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


class TestUsers:
    """Who is found is remembered as long as the files are the same."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[Path, Path]:
        """As they are in an image: not touched for long."""
        passwd, group = tmp_path / "passwd", tmp_path / "group"
        for file, content in ((passwd, PASSWD), (group, GROUP)):
            file.write_bytes(content)
        return passwd, group

    def test_a_user_is_found_and_found_again(self, files: tuple[Path, Path]) -> None:
        users = Users(*map(str, files))
        assert values(users.find("alice")) == values(users.find("alice")) == (1000, 100, (100, 10, 29), "/home/alice")
        with pytest.raises(UnknownUser):
            users.find("bob")

    def test_files_that_are_the_same_are_read_once(
        self, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[str] = []

        def note(path: str) -> bytes:
            read.append(path)
            return read_database(path)

        monkeypatch.setattr("guest.agent.container.users.read_database", note)
        # The time at which the files changed cannot be set, but the clock that it is compared with can.
        monkeypatch.setattr("time.time_ns", lambda: files[1].stat().st_ctime_ns + 2_000_000_000)
        users = Users(*map(str, files))
        assert [users.find("alice").uid for _ in range(3)] == [1000] * 3
        assert len(read) == 2

    def test_a_change_counts_at_once(self, files: tuple[Path, Path]) -> None:
        """Also the second one within a moment, of the same length: times have steps."""
        users = Users(*map(str, files))
        for uid in range(1000, 1050):
            files[0].write_text(f"alice:x:{uid}:7::/:\n")
            assert users.find("alice").uid == uid
        files[0].unlink()
        with pytest.raises(UnknownUser):
            users.find("alice")
        assert users.find("5").uid == 5

    def test_many_names_are_not_all_kept(self, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("time.time_ns", lambda: 1 << 62)
        users = Users(*map(str, files))
        assert [users.find(str(uid)).uid for uid in range(1000)] == list(range(1000))
        assert len(users._known) <= 64
