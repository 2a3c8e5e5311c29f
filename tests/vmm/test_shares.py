"""Real machines with shares: what a hostile guest gets out of them, and what becomes of one half without the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from boxlite.vmm.engines import EngineChoice
from boxlite.vmm.kept import read_exit
from boxlite.vmm.process import VmExit, VmProcess
from boxlite.vmm.zygote import Zygote, open_zygote
from tests.vmm.conftest import MakeSpec
from tests.vmm.processes import alive, children, until
from vmm_ffi.spec import SHARE_TAG, InstanceSpec, Keep, ShareSpec

BOOT_SECONDS = 60

ATTACK = """
say() { echo "guest: $1: $(shift; "$@" 2>&1)"; }
cd /files
say listing ls
say read cat v1/file
say write sh -c 'echo changed >v1/file'
mount -o remount,rw /files
say remounted sh -c 'echo changed >v1/file; echo more >v1/new; echo beside >beside'
say removed rm v1/file
say renamed mv v1/file v0/file
say linked ln v1/file v0/linked
say attributes chmod 777 v1/file
say link cat v0/link
say upward cat v0/../../../../etc/boxlite-secret
cp /bin/busybox v0/program
say special chmod 4755 v0/program
say group chmod 2755 v0/program
say device mknod v0/null c 1 3
say disk mknod v0/disk b 8 0
say given sh -c 'chown 12345:12345 v0/given && chmod 600 v0/given && echo done'
say planted sh -c 'ln -s /etc/passwd v0/passwd && echo done'
echo overwritten >v0/privileged
echo guest: over
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for name in ("rw", "ro"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"{name}\n")
    (tmp_path / "rw/attack.sh").write_text(ATTACK)
    return tmp_path


@pytest.fixture
def spec(make_spec: MakeSpec, choice: EngineChoice, host: Path, sockets: Path) -> InstanceSpec:
    """A machine whose guest mounts its shares and runs the script in the first of them."""
    assert choice.share_server is not None, "the tests need virtiofsd"
    return attrs.evolve(
        make_spec("shares"),
        shares=(ShareSpec("v0", str(host / "rw"), read_only=False), ShareSpec("v1", str(host / "ro"))),
        share_server=str(choice.share_server),
        share_socket=str(sockets / "shares"),
    )


def servers(parent: int) -> set[int]:
    """The processes of virtiofsd below a process, the one that serves included."""
    found = {pid for pid in children(parent) if b"virtiofsd" in Path(f"/proc/{pid}/cmdline").read_bytes()}
    return found | {below for pid in found for below in children(pid)}


def capabilities(pid: int) -> set[str]:
    """Those in effect, by the names of capabilities(7); others than a few by their numbers."""
    known = {0: "chown", 1: "dac_override", 3: "fowner", 6: "setgid", 7: "setuid"}
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return {known.get(bit, str(bit)) for bit in range(64) if mask >> bit & 1}


async def said(machine: VmProcess, what: str) -> None:
    await until(lambda: what in machine.console.tail(200) or machine.exit is not None, BOOT_SECONDS)
    assert what in machine.console.tail(200)


async def test_a_hostile_guest_gets_no_more_than_what_it_was_given(
    zygote: Zygote, spec: InstanceSpec, host: Path
) -> None:
    """Its kernel is its own: what it mounts how, and whom it takes itself for, is no obstacle to it."""
    (host / "rw/link").symlink_to(host / "secret")
    (host / "secret").write_text("secret of the host")
    (host / "rw/given").touch()
    (host / "rw/privileged").write_text("trusted")
    (host / "rw/privileged").chmod(0o4755)
    with trio.fail_after(BOOT_SECONDS):
        machine = await zygote.spawn(spec)
        assert await machine.wait() == VmExit(code=0)
    lines = [line.removeprefix("guest: ") for line in machine.console.tail(200).splitlines() if "guest: " in line]
    results = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert results["listing"] == "v0"
    assert results["read"] == "ro"
    for attempt in ("write", "remounted", "removed", "attributes"):
        assert "Read-only file system" in results[attempt], results
    for attempt in ("special", "group", "device", "disk"):
        assert "Operation not permitted" in results[attempt], results
    # A link is followed by the guest, and leads to a file of its own, or to none.
    assert "No such file" in results["link"]
    assert "No such file" in results["upward"]
    assert results["planted"] == "done"
    assert "secret of the host" not in machine.console.tail(200)
    assert {path.name: path.read_text() for path in (host / "ro").iterdir()} == {"file": "ro\n"}
    assert not {"null", "disk", "linked"} & set(os.listdir(host / "rw"))
    assert (host / "rw/program").stat().st_mode & 0o7000 == 0
    overwritten = (host / "rw/privileged").stat().st_mode
    assert overwritten & 0o7000 == 0, "what it has written runs with the rights of another user"
    if os.geteuid() == 0:
        assert results["given"] == "done"
        assert (host / "rw/given").stat().st_uid == 12345


async def test_a_machine_without_its_server_ends_and_says_why(zygote: Zygote, spec: InstanceSpec, host: Path) -> None:
    """A guest that waits for its files would wait for ever."""
    (host / "rw/attack.sh").write_text("echo guest: waiting; sleep 1000")
    machine = await zygote.spawn(spec)
    await said(machine, "guest: waiting")
    outer, inner = sorted(servers(zygote.pid))
    # And what serves it may do little: neither make devices or privileged programs, nor undo its mounts.
    assert capabilities(inner) <= {"chown", "dac_override", "fowner", "setgid", "setuid"}
    assert capabilities(outer) == set()
    os.kill(inner, signal.SIGKILL)
    with trio.fail_after(10):
        how = await machine.wait()
    assert how.signal == signal.SIGKILL
    assert str(how).startswith("was ended because virtiofsd, which serves its volumes, exited with status ")
    assert not alive(outer)


async def test_a_server_ends_with_its_machine_and_with_its_zygote(spec: InstanceSpec, host: Path) -> None:
    (host / "rw/attack.sh").write_text("echo guest: waiting; sleep 1000")
    async with open_zygote() as zygote, trio.open_nursery() as nursery:
        machines = [await zygote.spawn(attrs.evolve(spec, share_socket=f"{spec.share_socket}{n}")) for n in range(2)]
        for machine in machines:
            nursery.start_soon(said, machine, "guest: waiting")
        await until(lambda: len(servers(zygote.pid)) == 4 and all("waiting" in m.console.tail() for m in machines), 60)
        every = servers(zygote.pid)
        machines[0].kill()
        with trio.fail_after(10):
            assert await machines[0].wait() == VmExit(signal=signal.SIGKILL)
        # The machine's end is told when its server is gone, too.
        assert len(servers(zygote.pid)) == 2
        os.kill(zygote.pid, signal.SIGKILL)
        await until(lambda: not [pid for pid in (machines[1].pid, *every) if alive(pid)], 2)


async def test_a_kept_machine_keeps_its_server(spec: InstanceSpec, host: Path, tmp_path: Path) -> None:
    """Also beyond its zygote; and its keeper notes why it ended where that was the server's end."""
    (host / "rw/attack.sh").write_text("echo guest: waiting; sleep 1000")
    directory = tmp_path / "box"
    directory.mkdir(mode=0o700)
    async with open_zygote() as zygote:
        record = await zygote.spawn_kept(spec, Keep(str(directory), str(tmp_path / "sockets")))
    assert record.keeper is not None
    keeper = record.keeper.pid
    try:
        console = directory / "console.log"
        await until(lambda: b"guest: waiting" in console.read_bytes(), BOOT_SECONDS)
        every = servers(keeper)
        assert len(every) == 2
        os.kill(max(every), signal.SIGKILL)
        await until(lambda: not [pid for pid in (keeper, record.process.pid, *every) if alive(pid)], 10)
    finally:
        if alive(keeper):
            os.kill(keeper, signal.SIGKILL)
    how = read_exit(directory, record.process)
    assert how is not None
    assert "virtiofsd, which serves its volumes, " in str(how)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"share_server": "/absent/virtiofsd"}, "No such file or directory"),
        ({"share_server": "/bin/false"}, "exited with status 1"),
        ({"shares": (ShareSpec("v0", "/absent/volume"),)}, "the volume /absent/volume: No such file or directory"),
    ],
)
async def test_a_server_that_cannot_begin_ends_the_machine(
    zygote: Zygote, spec: InstanceSpec, changes: dict[str, Any], complaint: str
) -> None:
    with trio.fail_after(10):
        machine = await zygote.spawn(attrs.evolve(spec, **changes))
        how = await machine.wait()
    assert complaint in f"{how} {machine.console.tail()}"
    assert "virtiofsd, which serves its volumes" in str(how)


def test_the_tag_is_what_the_guest_mounts_by() -> None:
    from guest.agent.container import volumes

    assert volumes.SHARE_TAG == SHARE_TAG


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    mine = [pid for pid in children(os.getpid()) if alive(pid)]
    assert not [pid for pid in mine if servers(pid)]
