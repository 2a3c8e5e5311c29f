"""Reading archives: what the standard library writes, and what an attacker would."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.errors import ImageDamaged, UnsupportedImage
from boxlite.images.tar import MAX_EXTENSION, TarEntry, TarKind, read_tar
from tests.images.archives import Member, archive, directory, file, hard_link, symlink

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def read(data: bytes) -> list[TarEntry]:
    with tempfile.TemporaryFile() as spool:
        spool.write(data)
        spool.flush()
        return list(read_tar(spool.fileno(), 0, len(data)))


NAME, MODE, UID, SIZE = slice(0, 100), slice(100, 108), slice(108, 116), slice(124, 136)
MTIME, CHECKSUM, TYPE = slice(136, 148), slice(148, 156), slice(156, 157)
END = bytes(1024)


def header(*changes: tuple[slice, bytes]) -> bytes:
    """The header of an empty file with other values in some fields, and the checksum of these."""
    block = bytearray(archive(file(b"name"), format=tarfile.USTAR_FORMAT)[:512])
    for field, value in changes:
        block[field] = value.ljust(field.stop - field.start, b"\0")
    block[CHECKSUM] = b" " * 8
    block[CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def extension(typeflag: bytes, data: bytes) -> bytes:
    """An extension header with its data."""
    return header((TYPE, typeflag), (SIZE, b"%011o" % len(data))) + data + bytes(-len(data) % 512)


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_says_the_same(format: int) -> None:
    members = [
        directory(b"d/", mode=0o1777),
        file(b"d/file", b"x" * 1000, mode=0o4755),
        symlink(b"link", b"/d/file"),
        hard_link(b"hard", b"d/file"),
        Member(b"null", tarfile.CHRTYPE, device=(1, 3)),
        Member(b"disk", tarfile.BLKTYPE, device=(8, 1)),
        Member(b"pipe", tarfile.FIFOTYPE),
    ]
    entries = read(archive(*members, format=format))
    assert [entry.kind.value for entry in entries] == [member.type for member in members]
    assert [entry.link for entry in entries] == [member.link for member in members]
    assert [entry.mode for entry in entries] == [member.mode for member in members]
    assert [(entry.major, entry.minor) for entry in entries] == [member.device for member in members]
    assert [entry.name.rstrip(b"/") for entry in entries] == [member.name.rstrip(b"/") for member in members]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    name=st.binary(min_size=1, max_size=600).filter(lambda name: b"\0" not in name and not name.endswith(b"/")),
    content=st.binary(max_size=2000),
    uid=st.integers(0, 2**32 - 2),
    mtime=st.integers(-(2**33), 2**35),
)
def test_names_numbers_and_contents_come_back(format: int, name: bytes, content: bytes, uid: int, mtime: int) -> None:
    data = archive(Member(name, content=content, uid=uid, mtime=mtime), file(b"next"), format=format)
    entry, following = read(data)
    assert (entry.name, entry.uid, entry.mtime_ns) == (name, uid, mtime * 10**9)
    assert data[entry.offset : entry.offset + entry.size] == content
    assert following.name == b"next"


def test_a_long_path_in_ustar_has_a_prefix() -> None:
    name = b"/".join([b"d" * 40] * 5)
    assert read(archive(file(name), format=tarfile.USTAR_FORMAT))[0].name == name


def test_fractions_of_seconds_come_back() -> None:
    assert read(archive(Member(b"a", mtime=1.5)))[0].mtime_ns == 1_500_000_000
    assert read(archive(Member(b"a", mtime=-1.5)))[0].mtime_ns == -1_500_000_000


def test_extended_attributes_are_bytes() -> None:
    value = bytes(range(256))
    assert read(archive(file(b"a", xattrs={"user.all": value})))[0].xattrs == {b"user.all": value}


def test_a_pax_header_holds_for_one_entry_and_a_global_one_for_all_that_follow() -> None:
    assert [entry.uid for entry in read(archive(Member(b"a", uid=2**24), Member(b"b", uid=7)))] == [2**24, 7]
    data = extension(b"g", b"10 uid=77\n") + header() + header() + END
    assert [entry.uid for entry in read(data)] == [77, 77]


def test_links_have_no_content_whatever_their_size_says() -> None:
    hard, following = read(header((TYPE, b"1"), (SIZE, b"1000")) + header() + END)
    assert (hard.kind, hard.size, following.kind) == (TarKind.HARD_LINK, 0, TarKind.FILE)


def test_an_old_archive_marks_directories_by_a_slash() -> None:
    assert read(header((NAME, b"dir/"), (TYPE, b"\0")))[0].kind is TarKind.DIRECTORY
    assert read(header((NAME, b"file"), (TYPE, b"\0")))[0].kind is TarKind.FILE


def test_an_archive_may_end_without_zero_blocks() -> None:
    assert len(read(archive(file(b"a"), format=tarfile.USTAR_FORMAT)[:512])) == 1
    assert read(b"") == []


def test_garbage_after_the_end_is_ignored() -> None:
    assert len(read(archive(file(b"a")) + b"garbage" * 100)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:700], id="cut within a file"),
        pytest.param(lambda data: data[:300], id="cut within a header"),
        pytest.param(lambda data: b"x" + data[1:], id="wrong checksum"),
        pytest.param(lambda data: data[:1024] + b"x" * 512 + data[1536:], id="garbage between entries"),
        pytest.param(lambda data: data[:1024] + bytes(512) + data[1024:], id="one zero block between entries"),
        pytest.param(lambda data: header((SIZE, b"7777777777")), id="a size beyond the end"),
        pytest.param(lambda data: header((SIZE, b"\xff" * 12)), id="a negative size"),
        pytest.param(lambda data: header((SIZE, b"-1")), id="a size with a sign"),
        pytest.param(lambda data: header((SIZE, b"1_0")), id="a size with an underscore"),
        pytest.param(lambda data: header((MODE, b"rwxr-x")), id="a mode in letters"),
        pytest.param(lambda data: header((UID, b"\x80\xff\xff\xff\xff\xff\xff\xff")), id="a huge user id"),
        pytest.param(lambda data: header((UID, b"\xff" * 8)), id="a negative user id"),
        pytest.param(lambda data: extension(b"x", b"7 a=bc\n"), id="a pax header without entry"),
    ],
)
def test_a_damaged_archive_is_refused(damage: Callable[[bytes], bytes]) -> None:
    data = archive(file(b"a", b"x" * 512), file(b"b"), format=tarfile.USTAR_FORMAT)
    with pytest.raises(ImageDamaged):
        read(damage(data))


@pytest.mark.parametrize(
    "records",
    [
        b"no length",
        b"5 a=b",
        b"99 a=b\n",
        b"6 a=b\nx",
        b"3 \n",
        b"0 a=b\n",
        b"6 abc\n",
        b"13 size=-100\n",
        b"13 mtime=1e9\n",
    ],
)
def test_a_damaged_pax_header_is_refused(records: bytes) -> None:
    with pytest.raises(ImageDamaged, match="pax"):
        read(extension(b"x", records) + header() + END)


@pytest.mark.parametrize("typeflag", [b"x", b"g", b"L", b"K"])
def test_an_extension_header_of_any_size_does_not_fill_the_memory(typeflag: bytes) -> None:
    with pytest.raises(ImageDamaged, match="extension header"):
        read(extension(typeflag, bytes(MAX_EXTENSION + 1)) + header() + END)


@pytest.mark.parametrize("typeflag", [b"x", b"g", b"L", b"K"])
def test_no_number_of_extension_headers_fills_the_memory(typeflag: bytes) -> None:
    half = extension(typeflag, b"%d a=" % (MAX_EXTENSION // 2) + b"x" * (MAX_EXTENSION // 2 - 10) + b"\n")
    with pytest.raises(ImageDamaged, match=r"extension headers of|global pax headers"):
        read(half * 3 + header() + END)
    # They are read without asking whether anybody still waits for the result.
    with pytest.raises(ImageDamaged, match="extension headers of"):
        read(extension(typeflag, b"6 a=b\n") * 3000 + header() + END)


def test_global_headers_do_not_pile_up_from_entry_to_entry() -> None:
    records = [b"5000 k%03d=" % number + b"x" * 4989 + b"\n" for number in range(100)]
    with pytest.raises(ImageDamaged, match="global"):
        read(b"".join(extension(b"g", record) + header() for record in records) + END)


@pytest.mark.parametrize("typeflag", [b"S", b"V", b"\xff"])
def test_exotic_members_are_not_supported(typeflag: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        read(header((TYPE, typeflag)))


def test_a_sparse_member_in_a_pax_header_is_not_supported() -> None:
    info = file(b"a").info()
    info.pax_headers = {"GNU.sparse.major": "1"}
    with pytest.raises(UnsupportedImage, match="sparse"):
        read(info.tobuf(tarfile.PAX_FORMAT))


@given(data=st.binary(min_size=1, max_size=2000))
def test_no_bytes_make_the_reader_fail_in_another_way(data: bytes) -> None:
    for candidate in (data, archive(file(b"a", data)) + data, header((SIZE, data[:12])), header((MTIME, data[:12]))):
        try:
            entries = read(candidate)
        except (ImageDamaged, UnsupportedImage):
            continue
        assert all(entry.offset + entry.size <= len(candidate) for entry in entries)
