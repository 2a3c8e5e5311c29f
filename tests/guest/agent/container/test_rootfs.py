"""What a command sees around it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.guest.agent.harness import Shared, make_image, run_async, running_agent


def test_the_image_is_below_and_what_is_written_stays_above(box: Shared, image: Path) -> None:
    run = box.shell("cat /etc/passwd; echo changed >/etc/passwd2; rm /etc/passwd2; echo new >/root/new; cat /root/new")
    assert run.stdout.endswith(b"new\n")
    assert b"alice" in run.stdout
    assert not (image / "root/new").exists()


def test_it_is_a_world_of_its_own(box: Shared) -> None:
    """Own pids, own host name, own mounts: nothing of the machine's shows."""
    run = box.shell("ps -o pid | wc -l; hostname; cat /proc/1/mountinfo | cut -d' ' -f5; ls /proc/1/root/")
    lines = run.stdout.decode().split("\n")
    assert int(lines[0]) <= 8
    assert lines[1] == "tested"
    mounts = lines[2:]
    assert "/" in mounts
    assert not any(mount.startswith(("/run", "/home", "/work")) for mount in mounts)


def test_the_names_are_known(box: Shared) -> None:
    run = box.shell("cat /etc/hostname; cat /etc/hosts; readlink /etc/mtab")
    assert run.stdout.startswith(b"tested\n127.0.0.1\tlocalhost\n")
    assert b"127.0.1.1\ttested\n" in run.stdout
    assert run.stdout.endswith(b"/proc/mounts\n")


@pytest.mark.parametrize("device", ["null", "zero", "full", "random", "urandom"])
def test_the_usual_devices_work(box: Shared, device: str) -> None:
    assert box.shell(f"test -c /dev/{device} && head -c 0 /dev/{device}", user="alice").exited.exit_code == 0


def test_the_standard_streams_have_names_that_every_user_can_open(box: Shared) -> None:
    run = box.shell("echo out >/dev/stdout; echo err >/dev/stderr; ls /dev/fd/", user="alice")
    assert run.stdout.startswith(b"out\n")
    assert run.stderr == b"err\n"


def test_a_device_node_that_somebody_makes_opens_nothing(box: Shared) -> None:
    """Docker's capabilities have mknod; without this, root could open the raw disks and the way to the host."""
    run = box.shell(
        "mknod /root/null c 1 3; mknod /dev/null2 c 1 3; mknod /dev/shm/null c 1 3;"
        "for n in /root/null /dev/null2 /dev/shm/null; do (echo >$n) 2>/dev/null && echo opened $n; done; echo done"
    )
    assert run.stdout == b"done\n"


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_masked_files_are_empty(box: Shared, path: str) -> None:
    assert box.shell(f"test ! -e {path} || head -c 100 {path} | wc -c").stdout in (b"", b"0\n")


def test_masked_directories_are_empty(box: Shared) -> None:
    assert box.shell("ls /sys/firmware; ls /proc/scsi 2>/dev/null").stdout == b""


@pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"])
def test_kernel_settings_cannot_be_written(box: Shared, path: str) -> None:
    assert box.shell(f"echo x >{path}").exited.exit_code != 0


def test_nothing_can_be_mounted_or_unmounted(box: Shared) -> None:
    run = box.shell("mount -t tmpfs x /tmp; umount /proc/sys; umount /dev/null; mount -o remount,rw /sys; echo done")
    assert run.stdout == b"done\n"
    assert run.stderr.count(b"denied") + run.stderr.count(b"not permitted") >= 4


def test_an_image_of_traps_reaches_nothing_outside_of_itself(tmp_path: Path, image: Path) -> None:
    """Links where files are written, and directories where files should be."""
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile = make_image(tmp_path / "hostile")
    (hostile / "etc/hostname").symlink_to(outside / "hostname")
    (hostile / "etc/hosts").mkdir()
    (hostile / "etc/mtab").write_text("kept")
    (hostile / "proc").mkdir()
    (hostile / "proc/sys").symlink_to(outside)

    async def scenario() -> None:
        async with running_agent(tmp_path, hostile) as rig:
            host = rig.connect()
            run = await host.run("sh", "-c", "cat /etc/hostname; ls -d /etc/hosts; cat /etc/mtab")
            assert run.stdout == b"tested\n/etc/hosts\nkept"
            host.close()

    run_async(scenario())
    assert list(outside.iterdir()) == []


def test_what_was_written_is_there_again_with_the_same_scratch_disk(tmp_path: Path, image: Path) -> None:
    """A container that finds an upper layer goes on with it: the files that it writes itself are no obstacle."""

    async def session(script: str) -> bytes:
        async with running_agent(tmp_path, image, scratch=scratch) as rig:
            host = rig.connect()
            run = await host.run("sh", "-c", script)
            host.close()
            return run.stdout

    scratch = tmp_path / "kept"
    scratch.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "scratch", scratch], check=True)
    try:
        assert run_async(session("echo kept >/root/file")) == b""
        assert run_async(session("cat /root/file /etc/hostname")) == b"kept\ntested\n"
    finally:
        subprocess.run(["umount", scratch], check=True)


def test_the_containers_root_has_the_images_owner_and_mode(tmp_path: Path, image: Path) -> None:
    other = make_image(tmp_path / "image")
    other.chmod(0o751)

    async def scenario() -> bytes:
        async with running_agent(tmp_path, other) as rig:
            host = rig.connect()
            run = await host.run("stat", "-c", "%a %u", "/")
            host.close()
            return run.stdout

    assert run_async(scenario()) == b"751 0\n"
