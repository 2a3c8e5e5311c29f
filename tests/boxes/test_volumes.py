"""What may be asked for as a volume, in the API and as users of docker write it, and what is found of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from trio.testing import MockClock

from boxlite.boxes.options import BoxOptions
from boxlite.boxes.volumes import MAX_VOLUMES, Volume, find_volumes, in_mount_order, resolve_volumes, shares_of
from boxlite.errors import EngineUnavailable, InvalidOptions, VolumeUnavailable
from boxlite.images.reference import BuiltinReference
from boxlite.testing import open_simulated_runtime
from boxlite.testing.services import SimulatedParts
from boxlite.vmm.engines import EngineChoice
from tests.store.boxes import volumes
from vmm_ffi.spec import ShareSpec

IMAGE = BuiltinReference("python")


@given(volumes)
def test_a_volume_is_written_as_it_is_read(volume: Volume) -> None:
    if ":" in volume.source + volume.target:
        with pytest.raises(InvalidOptions):
            Volume.parse(str(volume))
    else:
        assert Volume.parse(str(volume)) == volume


@pytest.mark.parametrize(
    ("text", "source", "target", "read_only"),
    [
        ("/srv/data:/data", "/srv/data", "/data", False),
        ("/srv/data:/data:rw", "/srv/data", "/data", False),
        ("/srv/data/:/data/:ro", "/srv/data", "/data", True),
        ("./data:/data", "{here}/data", "/data", False),
        ("../data:/data", "{above}/data", "/data", False),
        (".:/work", "{here}", "/work", False),
        ("/a://b//c", "/a", "/b/c", False),
    ],
)
def test_a_volume_is_written_as_for_docker(text: str, source: str, target: str, read_only: bool) -> None:
    here = Path.cwd()
    expected = Volume(source.format(here=here, above=here.parent), target, read_only=read_only)
    assert Volume.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no volume: write SOURCE:TARGET"),
        ("/data", "is no volume: write SOURCE:TARGET"),
        ("/a:/b:ro:x", "is no volume: write SOURCE:TARGET"),
        ("/a:/b:z", "is ro or rw, not 'z'"),
        ("/a:/b:", "is ro or rw, not ''"),
        ("data:/data", r"there are no named volumes: write \./data"),
        (":/data", "is no path"),
        ("/a:data", "is an absolute path such as /data, not 'data'"),
        ("/a:", "is an absolute path such as /data, not ''"),
        ("/a:/", "cannot be the root of a box"),
        ("/a://", "cannot be the root of a box"),
        ("/a:/.", "cannot be the root of a box"),
        ("/a:/proc", "which is the kernel's own"),
        ("/a:/proc/sys", "which is the kernel's own"),
        ("/a:/sys/fs", "which is the kernel's own"),
        ("/a:/dev/shm", "which is the kernel's own"),
        ("/a:/./proc", "which is the kernel's own"),
        ("/a:/b/../proc", r"has no \.\. in it"),
        ("/a:/" + "x" * 256, "too long for a volume"),
        ("/" + "x/" * 2100 + ":/b", "too long for a volume"),
        ("/a\0:/b", "is a path on this host"),
        ("/a:/b\0", "is an absolute path such as /data"),
    ],
)
def test_nonsense_is_refused_with_the_way_out(text: str, complaint: str) -> None:
    with pytest.raises(InvalidOptions, match=complaint):
        Volume.parse(text)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Volume(b"/a", "/b"),  # type: ignore[arg-type]
        lambda: Volume(5, "/b"),  # type: ignore[arg-type]
        lambda: Volume("/a", Path("/b")),  # type: ignore[arg-type]
        lambda: Volume("/a", "/b", read_only="yes"),  # type: ignore[arg-type]
        lambda: Volume("", "/b"),
    ],
)
def test_what_is_no_path_is_no_volume(build: Any) -> None:
    with pytest.raises(InvalidOptions):
        build()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (["/a:/b"], r"are made with boxlite\.Volume\(source, target\), and '/a:/b' is not"),
        (5, "are a list of"),
        ([Volume("/a", "/x"), Volume("/b", "/x/")], "two volumes cannot both be at /x"),
        ([Volume("/a", f"/{number}") for number in range(MAX_VOLUMES + 1)], "at most 64 volumes, not 65"),
    ],
)
def test_volumes_that_cannot_be_together_are_refused(wrong: Any, complaint: str) -> None:
    with pytest.raises(InvalidOptions, match=complaint):
        BoxOptions(IMAGE, volumes=wrong)


async def test_links_are_followed_once_when_the_box_is_created(tmp_path: Path) -> None:
    """Later ones are not: a box that may write to a directory above could have put them there."""
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "sub").mkdir(parents=True)
    link.symlink_to(real)
    resolved = await resolve_volumes("box", [Volume(link / "sub", "/data", read_only=True)])
    assert resolved == (Volume(real / "sub", "/data", read_only=True),)
    await find_volumes("box", resolved)
    (real / "sub").rename(tmp_path / "moved")
    with pytest.raises(VolumeUnavailable, match=r"box box: its volume .*/real/sub does not exist on this host: create"):
        await find_volumes("box", resolved)
    (real / "sub").symlink_to("/etc")
    with pytest.raises(VolumeUnavailable, match="is now reached by a symbolic link, which leads to /etc: remove"):
        await find_volumes("box", resolved)


async def test_a_file_is_a_volume_and_what_holds_no_data_is_none(tmp_path: Path) -> None:
    file, fifo, door = tmp_path / "file", tmp_path / "fifo", tmp_path / "socket"
    file.touch()
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(door))
    assert await resolve_volumes("box", [Volume(file, "/f")]) == (Volume(file, "/f"),)
    for other in (fifo, door):
        with pytest.raises(InvalidOptions, match="neither a directory nor a file"):
            await resolve_volumes("box", [Volume(other, "/f")])
    with pytest.raises(VolumeUnavailable, match="cannot be used: Not a directory"):
        await resolve_volumes("box", [Volume(file / "x", "/f")])


@pytest.mark.parametrize("source", ["/", "/proc", "/proc/self", "/sys/kernel", "/dev", "/dev/shm", "/proc/self/root"])
async def test_the_host_itself_is_no_volume(source: str) -> None:
    with pytest.raises(InvalidOptions, match="the whole host, or its devices"):
        await resolve_volumes("box", [Volume(source, "/data")])


def test_a_volume_in_another_one_is_mounted_after_it() -> None:
    inner, outer = Volume("/b", "/data/inner", read_only=True), Volume("/a", "/data")
    assert in_mount_order([inner, outer]) == [outer, inner]
    assert shares_of([inner, outer]) == (ShareSpec("v0", "/a", False), ShareSpec("v1", "/b", True))


async def test_a_simulated_box_takes_volumes_and_keeps_what_they_are(tmp_path: Path, autojump_clock: MockClock) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    volumes = [Volume(tmp_path / "link", "/data")]
    async with open_simulated_runtime() as runtime:
        box = await runtime.create("builtin/python", name="box", volumes=volumes)
        assert box.options.volumes == (Volume(tmp_path, "/data"),)
        await box.run(["true"])
        # The same volumes are the same, however they are named.
        assert (await runtime.get_or_create("box", "builtin/python", volumes=volumes)).name == "box"
        with pytest.raises(VolumeUnavailable, match="create it, or correct the path"):
            await runtime.create("builtin/python", volumes=[Volume(tmp_path / "absent", "/data")])
        async with runtime.pool("builtin/python", size=1, volumes=volumes) as pool, pool.box() as pooled:
            assert pooled.options.volumes == (Volume(tmp_path, "/data"),)


async def test_without_virtiofsd_the_error_names_its_package(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SimulatedParts.engine

    async def engine_without(self: SimulatedParts) -> EngineChoice:
        return attrs.evolve(await engine(self), share_server=None)

    monkeypatch.setattr(SimulatedParts, "engine", engine_without)
    async with open_simulated_runtime() as runtime:
        box = await runtime.create("builtin/python", name="box", volumes=[Volume(tmp_path, "/data")])
        with pytest.raises(EngineUnavailable, match=r"box box: .* no virtiofsd.* apt-get install qemu-system-common"):
            await box.start()
        # Others do without.
        await (await runtime.create("builtin/python")).run(["true"])
