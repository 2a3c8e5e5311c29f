"""Where volumes are mounted in a container whose image is hostile; a directory of the test stands in for the share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.container.volumes import is_volume
from tests.privileges import require_root

# Stands in for the container's init: mounts taken out of the old root, a new root, and its own /proc, /sys and /dev.
CHILD = """
import json, posix, sys
from guest.agent import syscalls
from guest.agent.container import volumes
from guest.agent.files import is_directory
from guest.agent.syscalls import MountFlag, Namespace

root, wanted = json.loads(sys.argv[1])
syscalls.unshare(Namespace.MOUNT)
syscalls.mount("", "/", "", MountFlag.RECURSIVE | MountFlag.PRIVATE)
taken = [volumes._take(source, target, read_only) for source, target, read_only in wanted]
posix.chroot(root)
posix.chdir("/")
for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/dev")):
    syscalls.mount(kind, target, kind)
try:
    volumes.put(taken)
except OSError as error:
    print(error.strerror)
    raise SystemExit
for _, target, _ in wanted:
    try:
        name = target + "/new" if is_directory(target) else target
        posix.close(posix.open(name, posix.O_WRONLY | posix.O_CREAT))
        print("written", target)
    except OSError as error:
        print(posix.strerror(error.errno), target)
"""


def put(root: Path, *volumes: tuple[Path, str, bool]) -> list[str]:
    """What came of mounting volumes and of writing to each of them."""
    wanted = [(str(source), target, read_only) for source, target, read_only in volumes]
    arguments = json.dumps([str(root), wanted])
    done = subprocess.run([sys.executable, "-c", CHILD, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    require_root("mounts")
    path = tmp_path / "root"
    for name in ("proc", "sys", "dev", "etc", "srv"):
        (path / name).mkdir(parents=True)
    (path / "etc/file").write_text("of the image")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


def test_what_is_missing_of_the_way_is_made_and_what_is_there_is_covered(root: Path, source: Path, file: Path) -> None:
    said = put(
        root, (source, "/a/b/c", False), (source, "/srv", True), (file, "/x/y", False), (file, "/etc/file", True)
    )
    assert said == ["written /a/b/c", "Read-only file system /srv", "written /x/y", "Read-only file system /etc/file"]
    assert (source / "new").exists()
    assert not list((root / "a/b/c").iterdir()), "it was mounted for the container alone"
    assert (root / "x/y").is_file()
    # The same places serve at the next start.
    assert put(root, (source, "/a/b/c", False), (file, "/x/y", False)) == ["written /a/b/c", "written /x/y"]


def test_a_link_leads_to_places_in_the_container_alone(root: Path, source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "out").symlink_to("../../../../srv")
    (root / "absolute").symlink_to("/srv")
    (root / "away").symlink_to(outside)
    assert put(root, (source, "/out/volume", False)) == ["written /out/volume"]
    assert put(root, (source, "/absolute/other", False)) == ["written /absolute/other"]
    assert (root / "srv/volume").is_dir()
    assert (root / "srv/other").is_dir()
    # There is no such directory in the container, and none is made in its place.
    (complaint,) = put(root, (source, "/away", False))
    assert "File exists" in complaint
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("/proc", "leads from there into /proc, /sys or /dev"),
        ("/sys/kernel", "leads from there into /proc, /sys or /dev"),
        ("dev", "leads from there into /proc, /sys or /dev"),
        ("/", "leads from there to the container's root"),
        ("..", "leads from there to the container's root"),
        ("/proc/self/root", "Too many levels of symbolic links"),
        ("/proc/self/cwd", "Too many levels of symbolic links"),
        ("/etc/file", "the volume is a directory, and what the image has there is none"),
        ("trap", "Too many levels of symbolic links"),
    ],
)
def test_what_every_container_has_is_not_hidden(root: Path, source: Path, link: str, complaint: str) -> None:
    (root / "trap").symlink_to(link)
    (said,) = put(root, (source, "/trap", False))
    assert said.startswith("a volume cannot be mounted on /trap: ")
    assert complaint in said


def test_a_file_does_not_cover_a_directory(root: Path, file: Path) -> None:
    (said,) = put(root, (file, "/etc", False))
    assert "the volume is a file, and what the image has there is none" in said


def test_a_way_through_a_file_or_into_what_is_read_only_is_refused(root: Path, source: Path) -> None:
    (said,) = put(root, (source, "/etc/file/volume", False))
    assert "Not a directory" in said
    (said,) = put(root, (source, "/data", True), (source, "/data/inner", False))
    assert said == "a volume cannot be mounted on /data/inner: Read-only file system"


@given(st.text(max_size=40), st.binary(max_size=40).map(lambda raw: b"/" + raw))
def test_what_a_volume_may_be_called_names_one_entry_and_one_place(name: str, target: bytes) -> None:
    if is_volume(name, target):
        assert name.isascii()
        assert name.isalnum()
        assert not {b"", b".", b".."} & set(target.split(b"/")[1:])
        assert b"\0" not in target


@pytest.mark.parametrize(
    ("name", "target"),
    [("", b"/a"), ("..", b"/a"), ("a/b", b"/a"), ("V0", b"/a"), ("x" * 33, b"/a")]
    + [("v0", target) for target in (b"", b"a", b"/", b"/a/", b"//a", b"/a/../b", b"/.", b"/\0", b"/" + b"x" * 4096)],
)
def test_anything_else_is_refused(name: str, target: bytes) -> None:
    assert is_volume("v0", b"/data")
    assert not is_volume(name, target)
