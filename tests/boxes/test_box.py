"""What a command finds in its box: a container of its own, with Docker's rights and not more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

import boxlite
from boxlite import BoxState, Exited
from tests.boxes.guest_processes import commands, shell
from tests.images.archives import archive, directory, file, symlink
from tests.images.layouts import TAG, put_image, write_index
from tests.shared_box import TEST_TIMEOUT, SharedBox, in_shared_box

DOCKER_CAPABILITIES = "00000000a80425fb"
"""What Docker grants by default (moby, daemon/pkg/oci/caps/defaults.go), as a mask."""


async def output(box: boxlite.Box, script: str) -> str:
    return ((await box.run(shell(script))).stdout or b"").decode()


@in_shared_box
async def test_the_hostname_is_the_boxs_name(box: boxlite.Box) -> None:
    assert await output(box, "hostname; echo $HOSTNAME") == f"{box.name}\n{box.name}\n"


@in_shared_box
async def test_a_running_box_says_so(box: boxlite.Box) -> None:
    status = await box.status()
    assert (status.name, status.state, status.image, status.cause) == (
        box.name,
        BoxState.RUNNING,
        "builtin/python",
        "",
    )
    assert status.pid is not None
    assert repr(box) == f"<Box {box.name} of builtin/python>"


@in_shared_box
async def test_only_the_containers_processes_are_seen(box: boxlite.Box) -> None:
    """Its init, and the command that looks; neither the agent nor the kernel's threads."""
    first, *others = await commands(box)
    assert first.startswith("{init}")
    assert others == ["ps"]


@in_shared_box
async def test_rights_are_dockers(box: boxlite.Box) -> None:
    status = dict(line.split(":\t", 1) for line in (await output(box, "cat /proc/self/status")).splitlines())
    assert {name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")} == {
        "CapInh": "0" * 16,
        "CapPrm": DOCKER_CAPABILITIES,
        "CapEff": DOCKER_CAPABILITIES,
        "CapBnd": DOCKER_CAPABILITIES,
        "CapAmb": "0" * 16,
        "NoNewPrivs": "1",
    }


@in_shared_box
async def test_a_user_has_no_rights(box: boxlite.Box) -> None:
    script = "id -u; id -g; echo $HOME; grep CapEff /proc/self/status; touch /etc/passwd"
    done = await box.run(shell(script), user="nobody", check=False)
    assert (done.stdout or b"").decode().split() == ["65534", "65534", "/nonexistent", "CapEff:", "0" * 16]
    assert b"Permission denied" in (done.stderr or b"")
    assert done.outcome == Exited(1)


@in_shared_box
async def test_a_user_may_be_any_number(box: boxlite.Box) -> None:
    assert (await box.run(shell("id -u; id -g; pwd"), user="1234:5678")).stdout == b"1234\n5678\n/\n"


@in_shared_box
async def test_the_root_file_system_takes_writes_and_keeps_them(box: boxlite.Box) -> None:
    await box.run(shell("echo mine > /usr/bin/new; mv /etc/profile /etc/moved; rm /etc/nsswitch.conf"))
    seen = await output(box, "cat /usr/bin/new; ls /etc/profile /etc/moved /etc/nsswitch.conf 2>/dev/null; true")
    assert seen == "mine\n/etc/moved\n"


@in_shared_box
async def test_no_secret_of_the_kernel_is_to_be_read(box: boxlite.Box) -> None:
    """Docker's masked paths are empty, and there is no device but the harmless ones."""
    assert await output(box, "cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; ls -A /sys/firmware") == ""
    devices = (await output(box, "find /dev -type c -o -type b")).split()
    harmless = {"full", "null", "random", "tty", "urandom", "zero", "pts/ptmx"}
    assert set(devices) == {f"/dev/{name}" for name in harmless}


FORBIDDEN = {
    "mount a file system": "mount -t tmpfs none /tmp",
    "remount what is read-only": "mount -o remount,rw /proc/sys",
    "unmount what is masked": "umount /proc/kcore",
    "make a namespace": "unshare -m true",
    "change the kernel's settings": "echo 1 > /proc/sys/vm/drop_caches",
    "change the hostname": "hostname other",
    "set the clock": "date -s 2000-01-01 && test $(date +%Y) = 2000",
    "read a disk": "rm -f /tmp/disk; mknod /tmp/disk b 254 0 && cat /tmp/disk",
    "restart the machine": "reboot -f",
    "see how its init was started": "cat /proc/1/environ",
    "look through its init's files": "ls /proc/1/root/ /proc/1/cwd/",
    "hide from the kernel when memory is short": "echo -1000 > /proc/self/oom_score_adj",
}


@pytest.mark.parametrize("script", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_root_in_the_container_cannot_do(shared_box: SharedBox, script: str) -> None:
    async def test(box: boxlite.Box) -> None:
        done = await box.run(shell(script), check=False)
        assert done.outcome != Exited(0)
        assert any(
            reason in (done.stderr or b"")
            for reason in (b"not permitted", b"ermission denied", b"Read-only file system")
        )

    shared_box.run(test)


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_nobody_makes_a_user_namespace_and_so_gets_no_more_capabilities(shared_box: SharedBox, user: str) -> None:
    async def test(box: boxlite.Box) -> None:
        done = await box.run(["unshare", "-U", "true"], user=user, check=False)
        assert done.outcome == Exited(1)
        assert b"No space left on device" in (done.stderr or b"")  # How the kernel says that none more are allowed.

    shared_box.run(test)


@in_shared_box
async def test_process_1_can_neither_be_killed_nor_traced(box: boxlite.Box) -> None:
    for number in ("KILL", "STOP", "TERM", "INT", "SEGV"):
        await box.run(["kill", f"-{number}", "1"])
    trace = "import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))"
    assert (await box.run(["python3", "-c", trace])).stdout == b"-1\n"


@in_shared_box
async def test_there_is_no_network_but_the_loopback(box: boxlite.Box) -> None:
    connect = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname())\n"
        "socket.create_connection(('10.0.2.2', 80), 5)\n"
    )
    done = await box.run(["python3", "-c", connect], check=False)
    assert (done.stderr or b"").endswith(b"OSError: [Errno 101] Network is unreachable\n")
    assert b"line 4" in (done.stderr or b"")


@in_shared_box
async def test_a_memory_hog_dies_alone(box: boxlite.Box) -> None:
    """The guest's kernel ends the command that took all memory, and neither its neighbour nor the agent."""
    hog = "x = bytearray()\nwhile True: x += bytes(1 << 20)"
    async with box.exec(["cat"]) as neighbour:
        assert (await box.run(["python3", "-c", hog], check=False)).outcome == boxlite.Signalled(9)
        assert neighbour.stdin is not None
        await neighbour.stdin.aclose()
        assert await neighbour.wait() == Exited(0)


async def test_a_full_disk_is_the_commands_error_and_the_box_goes_on(home: Path) -> None:
    with trio.fail_after(TEST_TIMEOUT):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box("builtin/python", disk_mib=16) as box,
        ):
            done = await box.run(["dd", "if=/dev/zero", "of=/big", "bs=64k"], check=False)
            assert done.outcome == Exited(1)
            assert b"No space left on device" in (done.stderr or b"")
            assert (await box.run(["python3", "-c", "print(6 * 7)"])).stdout == b"42\n"
            await box.run(["rm", "/big"])
            await box.run(shell("head -c 8000000 /dev/zero > /fits"))


async def test_a_fork_bomb_harms_its_own_box_alone(home: Path, shared_box: SharedBox) -> None:
    """Its timeout is kept even where the guest has no time left to keep it, and the box can be removed."""
    with trio.fail_after(TEST_TIMEOUT):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box("builtin/python") as box,
        ):
            await box.start()
            bomb = "bomb() { bomb | bomb & }; bomb; sleep 60"
            assert (await box.run(shell(bomb), timeout=2, check=False)).outcome == boxlite.TimedOut()

    async def test(neighbour: boxlite.Box) -> None:
        assert (await neighbour.run(["echo", "fine"])).stdout == b"fine\n"

    await trio.to_thread.run_sync(shared_box.run, test)


def busybox_image(layout: Path) -> str:
    """An image of BusyBox, with a value for everything that an image's configuration can say of a process."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    tools = [symlink(f"bin/{name}".encode(), b"busybox") for name in ("sh", "id", "pwd", "echo")]
    layer = archive(
        directory(b"bin"),
        file(b"bin/busybox", Path(busybox).read_bytes(), mode=0o755),
        *tools,
        directory(b"etc"),
        file(b"etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv/app:/bin/sh\n"),
        file(b"etc/group", b"root:x:0:\nstaff:x:50:\nextra:x:60:app\n"),
        directory(b"srv"),
        directory(b"srv/app"),
        directory(b"srv/app/data"),
    )
    config = {
        "Entrypoint": ["/bin/busybox", "false"],
        "Cmd": ["never"],
        "Env": ["PATH=/bin", "A=image", "B=image"],
        "User": "app",
        "WorkingDir": "/srv/app",
    }
    manifest = put_image(layout, [layer], compression="+gzip", config=config)
    write_index(layout, manifest | {"annotations": {TAG: "test"}})
    return f"oci:{layout}:test"


async def test_an_images_configuration_is_honoured_as_docker_exec_does(home: Path, tmp_path: Path) -> None:
    """Env, User and WorkingDir are the defaults of every command; Entrypoint and Cmd are not part of it."""
    image = busybox_image(tmp_path / "image")
    script = shell("echo $A $B $C $HOME $PATH; id -u; id -G; pwd")
    with trio.fail_after(TEST_TIMEOUT):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box(image, disk_mib=64, env={"B": "box"}) as box,
        ):
            assert (await box.run(script)).stdout == b"image box /srv/app /bin\n1000\n1000 60\n/srv/app\n"
            async with box.exec(script, env={"A": "mine", "C": "new"}, user="root", cwd="data") as execution:
                lines = [line async for line in execution.stdout.lines()]
            assert lines == ["mine box new /root /bin", "0", "0", "/srv/app/data"]
            assert (await box.run(["id", "-G"], user="app:staff")).stdout == b"50\n"
