"""From layers to a disk that is complete or not there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxlite.errors import ImageDamaged, LayerRejected, StorageFull, UnsupportedImage
from boxlite.images.disk import build_disk, tar_to_disk
from boxlite.images.layout import Layer, find_image, host_architecture
from boxlite.images.limits import Limits
from boxlite.images.workspace import remove_abandoned
from tests.images.archives import Member, archive, directory, file, hard_link, symlink
from tests.images.disks import mounted, mounted_archive
from tests.images.layouts import COMPRESSIONS, write_layout
from tests.privileges import require_root

LOWER = archive(
    directory(b"etc"),
    file(b"etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
    file(b"etc/old", b"old"),
    directory(b"tmp", mode=0o1777),
    symlink(b"lib", b"usr/lib"),
    file(b"usr/lib/libc.so", b"\x7fELF" * 5000),
    file(b"bin/ping", b"#!", xattrs={"security.capability": bytes.fromhex("0100000200200000" + "00" * 12)}),
    Member(b"dev/null", tarfile.CHRTYPE, device=(1, 3), mode=0o666),
)
UPPER = archive(
    file(b"etc/.wh.old"),
    file(b"lib/libnew.so", b"new"),
    hard_link(b"usr/lib/libc.so.6", b"usr/lib/libc.so"),
    Member(b"home/app", tarfile.DIRTYPE, uid=1000, gid=1000, mode=0o700, mtime=1_700_000_000),
)


def layers(directory: Path, *archives: bytes, compression: str = "+gzip") -> tuple[Layer, ...]:
    layout = write_layout(directory / "layout", archives, compression=compression)
    return find_image(layout, None, host_architecture()).layers


@pytest.fixture
def disks(tmp_path: Path) -> Path:
    path = tmp_path / "disks"
    path.mkdir()
    return path


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_image_becomes_a_disk(tmp_path: Path, disks: Path, compression: str) -> None:
    build_disk(layers(tmp_path, LOWER, UPPER, compression=compression), disks / "image")
    found = mounted(disks / "image")
    assert set(found) - {b""} == {
        b"etc", b"etc/passwd", b"tmp", b"lib", b"usr", b"usr/lib", b"usr/lib/libc.so", b"usr/lib/libc.so.6",
        b"usr/lib/libnew.so", b"bin", b"bin/ping", b"dev", b"dev/null", b"home", b"home/app",
    }  # fmt: skip
    assert found[b"usr/lib/libc.so"].content == b"\x7fELF" * 5000
    assert found[b"usr/lib/libc.so"].names == {b"usr/lib/libc.so", b"usr/lib/libc.so.6"}
    assert found[b"home/app"].uid == 1000
    assert found[b"home/app"].mtime_ns == 1_700_000_000 * 10**9
    assert stat.S_IMODE(found[b"tmp"].mode) == 0o1777
    assert [name for name, _ in found[b"bin/ping"].xattrs] == ["security.capability"]
    assert found[b"dev/null"].device == (1, 3)


def test_an_image_without_layers_is_an_empty_disk(disks: Path) -> None:
    build_disk((), disks / "image")
    assert set(mounted(disks / "image")) == {b""}


def test_the_same_layers_give_the_same_bytes_however_compressed(tmp_path: Path, disks: Path) -> None:
    for number, compression in enumerate(COMPRESSIONS):
        (tmp_path / str(number)).mkdir()
        build_disk(layers(tmp_path / str(number), LOWER, UPPER, compression=compression), disks / str(number))
    assert len({path.read_bytes() for path in disks.iterdir()}) == 1


def test_a_disk_is_read_only_and_private(tmp_path: Path, disks: Path) -> None:
    build_disk(layers(tmp_path, LOWER), disks / "image")
    assert stat.S_IMODE((disks / "image").stat().st_mode) == 0o400


def test_a_disk_replaces_an_older_one(tmp_path: Path, disks: Path) -> None:
    (disks / "image").write_bytes(b"old")
    build_disk(layers(tmp_path, LOWER), disks / "image")
    assert b"etc/passwd" in mounted(disks / "image")


def test_a_tar_becomes_a_disk(tmp_path: Path) -> None:
    assert mounted_archive(tmp_path, file(b"./a", b"1"))[b"a"].content == b"1"
    assert {path.name for path in tmp_path.iterdir()} == {"archive.tar", "archive.ext4"}


def _raise_interrupt() -> Iterator[Callable[[], None]]:
    """Checks that raise at their first, second, third... call."""
    for last in range(60):
        calls = iter(range(last))

        def check(calls: Iterator[int] = calls) -> None:
            if next(calls, None) is None:
                raise InterruptedError

        yield check


def test_an_interruption_at_any_point_leaves_nothing(tmp_path: Path, disks: Path) -> None:
    image = layers(tmp_path, LOWER, UPPER)
    interrupted = 0
    for check in _raise_interrupt():
        try:
            build_disk(image, disks / "image", check=check)
        except InterruptedError:
            interrupted += 1
            assert list(disks.iterdir()) == []
        else:
            break
    assert interrupted > 20
    assert [path.name for path in disks.iterdir()] == ["image"]


@pytest.mark.parametrize(
    ("tar", "error"),
    [
        (archive(file(b"../evil")), LayerRejected),
        (archive(hard_link(b"a", b"/etc/shadow")), LayerRejected),
        (archive(file(b"a", b"x" * 2000))[:1000], ImageDamaged),
        (archive(file(b"a"))[:156] + b"S" + archive(file(b"a"))[157:], ImageDamaged),
        (archive(file(b"a", xattrs={"user.a": bytes(10_000)})), LayerRejected),
        (archive(*(file(b"%d" % n) for n in range(200))), LayerRejected),
        (archive(file(b"a", bytes(2**21))), LayerRejected),
    ],
)
def test_a_hostile_layer_is_refused_by_its_digest_and_leaves_nothing(
    tmp_path: Path, disks: Path, tar: bytes, error: type[Exception]
) -> None:
    image = layers(tmp_path, LOWER, tar)
    with pytest.raises(error, match=r"layer sha256:|entry b'/a'"):
        build_disk(image, disks / "image", limits=Limits(unpacked_bytes=2**20, entries=100))
    assert list(disks.iterdir()) == []


def test_the_limit_is_for_all_layers_together(tmp_path: Path, disks: Path) -> None:
    tar = archive(file(b"a", bytes(600_000)))
    build_disk(layers(tmp_path, tar), disks / "one", limits=Limits(unpacked_bytes=2**20))
    with pytest.raises(LayerRejected, match="limit"):
        build_disk(layers(tmp_path, tar, tar), disks / "two", limits=Limits(unpacked_bytes=2**20))


def test_a_sparse_member_is_refused_by_name(tmp_path: Path, disks: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as sparse:
        sparse.truncate(2**20)
    tar = tmp_path / "sparse.tar"
    subprocess.run(["tar", "--sparse", "-C", tmp_path, "-cf", tar, "sparse"], check=True)
    with pytest.raises(UnsupportedImage, match="sparse"):
        build_disk(layers(tmp_path, tar.read_bytes()), disks / "image")
    assert list(disks.iterdir()) == []


# The file system is as large as the argument says, and goes with its namespace.
_FULL_DISK = """
mount -t tmpfs -o size="$1" tmpfs "$2" && exec "$3" -c '
import sys
from pathlib import Path
from boxlite.errors import StorageFull
from boxlite.images.disk import tar_to_disk
try:
    tar_to_disk(Path(sys.argv[1]), Path(sys.argv[2]) / "image")
except StorageFull as error:
    print(error, sorted(Path(sys.argv[2]).iterdir()))
' "$4" "$2"
"""


@pytest.mark.parametrize("size", ["4k", "64k", "1m"])
def test_a_full_file_system_is_named_with_what_is_needed_and_nothing_is_left(tmp_path: Path, size: str) -> None:
    require_root("mounts of a small file system")
    tar = tmp_path / "large.tar"
    tar.write_bytes(archive(file(b"large", os.urandom(3 * 2**20))))
    (tmp_path / "full").mkdir()
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        _FULL_DISK,
        "sh",
        size,
        str(tmp_path / "full"),
        sys.executable,
        str(tar),
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"no room in {tmp_path}/full to build the disk image" in said
    assert said.rstrip().endswith("[]")


def test_an_unpacked_image_that_does_not_fit_is_a_full_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool file is the first to meet the end of the disk: here, of this process's file size limit."""
    import resource
    import signal

    image = layers(tmp_path, archive(file(b"large", os.urandom(3 * 2**20))))
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, previous[1]))
    try:
        with pytest.raises(StorageFull, match="free some"):
            build_disk(image, tmp_path / "image")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name for path in tmp_path.iterdir()} == {"layout"}


def test_a_killed_build_is_cleaned_up_later_and_a_running_one_is_not(tmp_path: Path, disks: Path) -> None:
    (tmp_path / "a.tar").write_bytes(archive(file(b"a")))
    script = """
import os, sys, signal
from pathlib import Path
from boxlite.images.disk import tar_to_disk
def check():
    print("building", flush=True)
    sys.stdin.read()
tar_to_disk(Path(sys.argv[1]), Path(sys.argv[2]), check=check)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "a.tar"), str(disks / "image")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"building\n"
        remove_abandoned(disks)
        assert len(list(disks.iterdir())) == 1
        builder.kill()
    remove_abandoned(disks)
    assert list(disks.iterdir()) == []


def test_the_disk_of_a_directory_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(archive(file(b"a")))
    with pytest.raises(FileNotFoundError):
        tar_to_disk(tmp_path / "a.tar", tmp_path / "missing" / "image")
