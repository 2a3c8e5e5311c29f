"""Disks by their serial numbers."""

from __future__ import annotations

import pytest

from guest.agent import disks
from guest.agent.disks import DiskError, is_serial, mount_disk


@pytest.mark.parametrize("serial", ["image", "scratch-1", "a", "0", "sha256_ab.cd", "x" * 20])
def test_a_serial_number_names_a_directory(serial: str) -> None:
    assert is_serial(serial)


@pytest.mark.parametrize("serial", ["", ".", "..", "a/b", "../etc", "x" * 21, "a b", "a\n", "é", ".hidden", "a,b"])
def test_what_could_name_another_directory_is_none(serial: str) -> None:
    assert not is_serial(serial)
    with pytest.raises(DiskError, match="not a serial number"):
        mount_disk(serial, read_only=True)


def test_a_disk_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DiskError, match="no disk absent-disk"):
        mount_disk("absent-disk", read_only=True)


def test_where_the_host_names_the_disks_in_their_order_their_own_numbers_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disks, "read_argument", lambda name: "root,image,scratch" if name == "boxlite.disks" else "")
    assert [disks._find(name) for name in ("image", "scratch")] == ["/dev/vdb", "/dev/vdc"]
    with pytest.raises(DiskError, match="has no disk roo"):
        disks._find("roo")
