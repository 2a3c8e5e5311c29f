"""Builtin parts are made once, made anew when their sources change, and never half.

A stand-in for `python -m guest.build` makes most builds here quick, and slow or broken ones on demand. It is a real
child process with the same command line; the first test runs the true one.
"""

import json
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from boxlite.errors import GuestBuildFailed, ImageNotFound
from boxlite.images import builtin
from boxlite.images.builtin import ensure_builtin, ensure_guest_root

BUILDER = """\
#!{python}
import hashlib, io, json, os, sys, tarfile, time
from pathlib import Path

home = Path(__file__).parent
part, output, record = sys.argv[4], Path(sys.argv[5]), Path(sys.argv[7])
source = home / "source"
status = source.stat()
with (home / "builds").open("a") as log:
    log.write(f"{{part}} {{os.getpid()}}\\n")
content = source.read_bytes()
if content == b"broken":
    sys.exit("no such part: install it")
if content == b"slow":
    output.write_bytes(b"half")
    (home / "started").write_text("")
    time.sleep(1000)
if part == "root":
    with tarfile.open(output, "w") as tar:
        header = tarfile.TarInfo("file")
        header.size = len(content)
        tar.addfile(header, io.BytesIO(content))
else:
    output.mkdir()
    (output / "index.json").write_bytes(content)
key = hashlib.sha256(content).hexdigest()
files = {{str(source): [status.st_size, status.st_mtime_ns]}}
directories = {{str(home / "library"): []}}
noted = {{"key": key, "files": files, "directories": directories, "ignored": "skip"}}
record.write_text(json.dumps(noted))
"""


class Builder:
    """The stand-in: its one source file, its one source directory, and what it was asked for."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.program = home / "builder"
        self.program.write_text(BUILDER.format(python=sys.executable))
        self.program.chmod(0o755)
        (home / "library").mkdir()
        self.write("content")

    def write(self, content: str) -> None:
        (self.home / "source").write_text(content)

    def builds(self) -> list[str]:
        log = self.home / "builds"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    home = tmp_path / "builder"
    home.mkdir()
    made = Builder(home)
    monkeypatch.setattr(sys, "executable", str(made.program))
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_the_real_parts_are_built_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is a sound file system, the layout an image's; a second call starts no process and gives the same."""
    root, image = await ensure_guest_root(cache), await ensure_builtin("python", cache)
    check = await trio.run_process(["e2fsck", "-fn", str(root)], capture_stdout=True, capture_stderr=True, check=False)
    assert check.returncode == 0
    assert json.loads((image / "index.json").read_bytes())["schemaVersion"] == 2

    async def no_process(*arguments: object, **options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(trio, "run_process", no_process)
    assert await ensure_guest_root(cache) == root
    assert await ensure_builtin("python", cache) == image


async def test_both_parts_live_side_by_side(builder: Builder, cache: Path) -> None:
    root, image = await ensure_guest_root(cache), await ensure_builtin("python", cache)
    assert root.is_file()
    assert (image / "index.json").read_text() == "content"
    assert len(names(cache)) == 4
    assert [line.split()[0] for line in builder.builds()] == ["root", "image"]


def change_content(builder: Builder) -> None:
    builder.write("another")


def change_time(builder: Builder) -> None:
    os.utime(builder.home / "source", ns=(0, 0))


def add_file(builder: Builder) -> None:
    (builder.home / "library" / "new.py").touch()


def remove_directory(builder: Builder) -> None:
    (builder.home / "library").rmdir()


@pytest.mark.parametrize("change", [change_content, change_time, add_file, remove_directory])
async def test_a_change_of_the_sources_is_noticed(
    builder: Builder, cache: Path, change: Callable[[Builder], None]
) -> None:
    """A file with another content or time, one that is new in a directory, a directory that is gone."""
    for _ in range(2):
        before = await ensure_builtin("python", cache)
    assert len(builder.builds()) == 1
    change(builder)
    after = await ensure_builtin("python", cache)
    assert len(builder.builds()) == 2
    # The name is a key of the contents: only another content gives another one.
    assert (after == before) == (change is not change_content)
    assert (after / "index.json").read_bytes() == (builder.home / "source").read_bytes()


async def test_what_no_build_reads_does_not_matter(builder: Builder, cache: Path) -> None:
    """Compiled modules come and go beside the sources."""
    await ensure_builtin("python", cache)
    (builder.home / "library" / "skip").mkdir()
    await ensure_builtin("python", cache)
    assert len(builder.builds()) == 1


async def test_another_environment_has_its_own_record(
    builder: Builder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with another Python never gets the first one's parts, though their sources have not changed."""
    await ensure_guest_root(cache)
    monkeypatch.setattr(sys, "version", "3.99.0")
    await ensure_guest_root(cache)
    assert len(builder.builds()) == 2


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"key": 3}', "\x00", '{"key": "x", "files": 1}', "null"])
async def test_a_damaged_record_is_made_anew(builder: Builder, cache: Path, damage: str) -> None:
    before = await ensure_guest_root(cache)
    (record,) = (name for name in names(cache) if name.endswith(".json"))
    (cache / record).write_text(damage)
    assert await ensure_guest_root(cache) == before
    assert len(builder.builds()) == 2
    assert await ensure_guest_root(cache) == before
    assert len(builder.builds()) == 2


async def test_a_result_that_was_removed_is_made_anew(builder: Builder, cache: Path) -> None:
    before = await ensure_guest_root(cache)
    before.unlink()
    assert await ensure_guest_root(cache) == before
    assert before.exists()


async def test_a_failure_says_why_and_leaves_nothing(builder: Builder, cache: Path) -> None:
    """The next call tries again."""
    builder.write("broken")
    with pytest.raises(GuestBuildFailed, match="no such part: install it"):
        await ensure_guest_root(cache)
    assert names(cache) == []
    builder.write("mended")
    assert (await ensure_guest_root(cache)).exists()


async def test_a_builder_that_cannot_start_is_an_error(
    builder: Builder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(builder.home / "gone"))
    with pytest.raises(GuestBuildFailed, match="gone"):
        await ensure_guest_root(cache)
    assert names(cache) == []


async def test_cancelling_stops_the_build(builder: Builder, cache: Path) -> None:
    """Neither the child nor a file of its stays."""
    builder.write("slow")
    started = builder.home / "started"
    os.mkfifo(started)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ensure_guest_root, cache)
        with trio.fail_after(30):
            await trio.to_thread.run_sync(started.read_bytes, abandon_on_cancel=True)
        assert len(names(cache)) == 1
        nursery.cancel_scope.cancel()
    assert names(cache) == []
    (line,) = builder.builds()
    with pytest.raises(ProcessLookupError):
        os.kill(int(line.split()[1]), 0)


async def test_what_a_killed_process_left_is_removed(builder: Builder, cache: Path) -> None:
    """Also by a call that has nothing to build."""
    await ensure_guest_root(cache)
    abandoned = cache / ".building-killed"
    abandoned.mkdir()
    (abandoned / "half").touch()
    await ensure_guest_root(cache)
    assert not abandoned.exists()
    assert len(builder.builds()) == 1


async def test_two_at_once_agree(builder: Builder, cache: Path) -> None:
    """Whoever is second finds the same contents under the same name."""
    results = []

    async def ensure() -> None:
        results.append((await ensure_guest_root(cache), await ensure_builtin("python", cache)))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ensure)
    assert len(set(results)) == 1
    assert len(names(cache)) == 4


async def test_what_nobody_asks_for_goes_in_the_end(
    builder: Builder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result stays for `KEPT_SECONDS` after its last use; only those of the same kind are touched, by a new build."""
    image = await ensure_builtin("python", cache)
    first = await ensure_guest_root(cache)
    builder.write("second")
    second = await ensure_guest_root(cache)
    assert first.exists()
    long_ago = time.time() - builtin.KEPT_SECONDS - 60
    for path in (image, first, second):
        os.utime(path, (long_ago, long_ago))
    assert await ensure_guest_root(cache) == second
    builder.write("third")
    third = await ensure_guest_root(cache)
    assert [path.exists() for path in (image, first, second, third)] == [True, False, True, True]


async def test_an_unknown_name_is_not_found(tmp_path: Path) -> None:
    """The message says what there is; nothing is built, nor a path made of the name."""
    for name in ("ruby", "", "../python", "python\0"):
        with pytest.raises(ImageNotFound, match="there is builtin/python"):
            await ensure_builtin(name, tmp_path / "cache")
    assert names(tmp_path) == []


async def test_the_guest_root_cannot_be_written(builder: Builder, cache: Path) -> None:
    """Many virtual machines read the one disk."""
    disk = await ensure_guest_root(cache)
    assert stat.S_IMODE(disk.stat().st_mode) & 0o222 == 0
    dump = await trio.run_process(
        ["debugfs", "-R", "cat /file", str(disk)], capture_stdout=True, capture_stderr=True, check=True
    )
    assert dump.stdout == b"content"
