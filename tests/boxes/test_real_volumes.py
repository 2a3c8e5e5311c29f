"""Volumes in real boxes, as their users see them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

import boxlite
from boxlite import Volume
from tests.leftovers import nothing_left
from tests.vmm.processes import children

LIMIT = 120


async def output(box: boxlite.Box, script: str, **options: object) -> tuple[str, str]:
    done = await box.run(["sh", "-c", script], check=False, **options)  # type: ignore[arg-type]
    return (done.stdout or b"").decode(), (done.stderr or b"").decode()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for name in ("rw", "ro", "inner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"{name}\n")
    (tmp_path / "settings").write_text("settings\n")
    return tmp_path


async def test_a_box_sees_what_it_was_given_and_no_more(home: Path, sockets: Path, host: Path) -> None:
    """One box, since it has to boot: what it reads and writes, who it is on the host, and what ends it."""
    volumes = [
        # In an order in which the first one has no place yet.
        Volume(host / "inner", "/data/rw/made/inner", read_only=True),
        Volume(host / "rw", "/data/rw"),
        Volume(host / "ro", "/data/ro/", read_only=True),
        Volume(host / "settings", "/etc/app/settings", read_only=True),
        Volume(host / "settings", "/etc/hostname"),
    ]
    others = children(os.getpid())
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box("builtin/python", disk_mib=64, volumes=volumes) as box,
        ):
            said, _ = await output(box, "cat /data/rw/file /data/ro/file /data/rw/made/inner/file /etc/app/settings")
            assert said == "rw\nro\ninner\nsettings\n"
            assert (await output(box, "cat /etc/hostname"))[0] == "settings\n"
            assert (host / "rw/made/inner").is_dir(), "a place in another volume is made in that one"

            _, complaint = await output(box, "touch /data/ro/x /data/rw/made/inner/x; echo x >/etc/app/settings")
            assert complaint.count("Read-only file system") == 3
            _, complaint = await output(
                box, "mount -o remount,rw /data/ro; umount /data/ro; umount /data/rw; ls /data/ro"
            )
            assert "x" not in complaint.splitlines()[-1]

            await output(box, "echo written >/data/rw/new; mkdir /data/rw/sub; ln -s /etc/shadow /data/rw/link")
            assert (host / "rw/new").read_text() == "written\n"
            assert os.readlink(host / "rw/link") == "/etc/shadow"
            (host / "rw/sub/from-host").write_text("seen\n")
            assert (await output(box, "cat /data/rw/sub/from-host"))[0] == "seen\n"

            _, complaint = await output(
                box, "cp /bin/busybox /data/rw/suid; chmod u+s /data/rw/suid; mknod /data/rw/n c 1 3"
            )
            assert complaint.count("Operation not permitted") == 2
            said, _ = await output(box, "grep virtiofs /proc/mounts")
            assert said.count("nosuid,nodev") == said.count("virtiofs") == 5

            # Others than root may write where root lets them, and what they make is theirs.
            (host / "rw").chmod(0o777)
            _, complaint = await output(box, "echo mine >/data/rw/theirs", user="1234:1234")
            assert complaint == ""
            owner = (host / "rw/theirs").stat().st_uid
            assert owner == (1234 if os.geteuid() == 0 else os.geteuid())

            (zygote,) = [pid for pid in children(os.getpid()) - others if _runs(pid, b"vmm_ffi.zygote")]
            (server,) = [pid for pid in children(zygote) if _runs(pid, b"virtiofsd")]
            async with box.exec(["sleep", "1000"]) as execution:
                os.kill(server, signal.SIGKILL)
                assert isinstance(await execution.wait(), boxlite.VmDied)
            ended = await box.wait()
            assert ended.state is boxlite.BoxState.FAILED
            assert "was ended because virtiofsd, which serves its volumes, was killed by signal 9" in ended.cause
            (host / "ro").rename(host / "moved")
            with pytest.raises(boxlite.VolumeUnavailable, match="/ro does not exist on this host: create it"):
                await box.start()


def _runs(pid: int, what: bytes) -> bool:
    try:
        return what in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
