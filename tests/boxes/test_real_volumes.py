"""Volumes in real boxes, as their users see them."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest
import trio

import boxlite
from boxlite import Volume
from tests.faults.conftest import furnish
from tests.leftovers import machines, nothing_left
from tests.testing.conformance.subject import PATIENCE
from tests.vmm.obstacles import skip_without
from tests.vmm.processes import alive, children, until
from vmm_ffi.spec import VmmKind

LIMIT = 2 * PATIENCE


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


@pytest.fixture(params=[VmmKind.QEMU, VmmKind.KRUN])
def kind(request: pytest.FixtureRequest) -> VmmKind:
    """Every engine that this host can have."""
    wanted: VmmKind = request.param
    skip_without(wanted)
    return wanted


async def test_a_box_sees_what_it_was_given_and_no_more(kind: VmmKind, home: Path, sockets: Path, host: Path) -> None:
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
            boxlite.open_runtime(home=home, ephemeral=True, engine=kind.value) as runtime,
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
            # More than what is read or written at once, and by many at a time.
            said, _ = await output(
                box,
                "dd if=/dev/urandom of=/data/rw/large bs=1M count=3; md5sum </data/rw/large;"
                "cd /data/rw; for n in 1 2 3 4 5 6 7 8; do cp large copy$n & done; wait; cat copy* | md5sum",
            )
            large = (host / "rw/large").read_bytes()
            assert said.split()[::2] == [hashlib.md5(content).hexdigest() for content in (large, 8 * large)]
            said, _ = await output(box, "grep virtiofs /proc/mounts")
            assert said.count("nosuid,nodev") == said.count("virtiofs") == 5

            # Others than root may write where root lets them, and what they make is theirs.
            (host / "rw").chmod(0o777)
            _, complaint = await output(box, "echo mine >/data/rw/theirs", user="1234:1234")
            assert complaint == ""
            owner = (host / "rw/theirs").stat().st_uid
            assert owner == (1234 if os.geteuid() == 0 else os.geteuid())

            (zygote,) = [pid for pid in children(os.getpid()) - others if _runs(pid, b"vmm_ffi.zygote")]
            (server,) = [pid for pid in children(zygote) if _is(pid, "virtiofsd")]
            async with box.exec(["sleep", "1000"]) as execution:
                os.kill(server, signal.SIGKILL)
                assert isinstance(await execution.wait(), boxlite.VmDied)
            ended = await box.wait()
            assert ended.state is boxlite.BoxState.FAILED
            assert "was ended because virtiofsd, which serves its volumes, was killed by signal 9" in ended.cause
            (host / "ro").rename(host / "moved")
            with pytest.raises(boxlite.VolumeUnavailable, match="/ro does not exist on this host: create it"):
                await box.start()


@pytest.mark.parametrize("kind", [VmmKind.KRUN], indirect=True)
async def test_a_detached_box_keeps_its_volumes(
    kind: VmmKind, home: Path, sockets: Path, host: Path, tmp_path: Path
) -> None:
    """And the relay to their server, without which it ends. What QEMU does is in tests/vmm/test_shares.py."""
    own_home = furnish(tmp_path / "home", home)
    volumes = [Volume(host / "rw", "/rw"), Volume(host / "ro", "/ro", read_only=True)]
    with trio.fail_after(LIMIT):
        try:
            async with boxlite.open_runtime(home=own_home, engine=kind.value, jail="maximum") as runtime:
                box = await runtime.create("builtin/python", name="kept", disk_mib=64, volumes=volumes, detached=True)
                assert (await output(box, "cat /rw/file"))[0] == "rw\n"
            (machine,) = machines(sockets)
            async with boxlite.open_runtime(home=own_home, engine=kind.value, jail="maximum") as runtime:
                box = await runtime.get("kept")
                assert (await output(box, "cat /ro/file; echo more >>/rw/file; echo x >/ro/file"))[0] == "ro\n"
                assert (host / "rw/file").read_text() == "rw\nmore\n"
                keeper = _parent(machine)
                # In a jail, bubblewrap is between them.
                keeper = keeper if _runs(keeper, b"vmm_ffi.zygote") else _parent(keeper)
                (relay,) = [pid for pid in children(keeper) if _runs(pid, b"vmm_ffi.zygote")]
                servers = [pid for pid in children(keeper) if _is(pid, "virtiofsd")]
                os.kill(relay, signal.SIGKILL)
                ended = await box.wait()
                assert ended.state is boxlite.BoxState.FAILED
                assert "the relay to virtiofsd, which serves its volumes, was killed by signal 9" in ended.cause
                await until(lambda: not [pid for pid in (keeper, machine, *servers) if alive(pid)], 10)
        finally:
            for pid in machines(sockets):
                os.kill(pid, signal.SIGKILL)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is(pid: int, program: str) -> bool:
    try:
        return Path(os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0])).name == program
    except OSError:
        return False


def _runs(pid: int, what: bytes) -> bool:
    try:
        return what in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
