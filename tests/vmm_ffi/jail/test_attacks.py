"""An attacker in the place of the engine, in the very jail of a box, comes to nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.privileges import require_root
from tests.vmm_ffi.jail.attackers import JAIL_USER, NOBODY, Attacks, Prison, open_prison
from vmm_ffi.jail.limits import FILES, THREADS
from vmm_ffi.spec import JAIL_GID, JailSpec, Refusal, VmmKind

BWRAP = shutil.which("bwrap")

PRISONS = [(user, kind) for kind in VmmKind for user in ("root", "ordinary")]


@pytest.fixture(scope="module", params=PRISONS, ids=["-".join(param) for param in PRISONS])
def prison(request: pytest.FixtureRequest) -> Iterator[Prison]:
    """Of root, and of an ordinary user, for each engine; an ordinary user has the second alone."""
    user, kind = request.param
    if user == "root":
        require_root("machines of root's")
    with open_prison(NOBODY if user == "ordinary" and os.geteuid() == 0 else None, kind) as prison:
        yield prison


@attrs.frozen
class Victims:
    """What a host has that is none of a machine's business."""

    process: int
    port: int
    name: str


@pytest.fixture
def victims(prison: Prison) -> Iterator[Victims]:
    with (
        _victim(prison) as process,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as named,
    ):
        name = f"boxlite-test-{secrets.token_hex(8)}"
        named.bind("\0" + name)
        named.listen()
        yield Victims(process, server.getsockname()[1], name)


@contextmanager
def _victim(prison: Prison) -> Iterator[int]:
    owner = prison.path.stat().st_uid
    victim = subprocess.Popen(["/bin/sleep", "60"], user=None if owner == os.geteuid() else owner)
    try:
        yield victim.pid
    finally:
        victim.kill()
        victim.wait()


def jail_of(prison: Prison, calls: Refusal | None = Refusal.ABSENT) -> JailSpec:
    """What a box has in the jail "standard", and with `Refusal.KILL` in "maximum"."""
    uid = JAIL_USER if prison.path.stat().st_uid == 0 else None
    return JailSpec(bwrap=BWRAP, uid=uid, calls=calls)


def files_of_others(prison: Prison) -> Attacks:
    return {
        "read other box": str(prison.others_disk),
        "write other box": str(prison.others_disk),
        "read database": str(prison.database),
        "read users": "/etc/passwd",
        "read passwords": "/etc/shadow",
        "names of home": os.path.expanduser("~"),
        "names of processes": "/proc",
        "names of kernel": "/sys",
    }


CALLS: dict[str, object] = {
    "fork": None,
    "mount": None,
    "namespace": None,
    "other_space": None,
    "ring": None,
    "netlink": None,
    "terminal": None,
    "node": "/node",
}
"""Attacks by a system call that no engine needs."""


def test_without_a_jail_the_attacks_succeed(prison: Prison, victims: Victims) -> None:
    """Or they would prove nothing."""
    attacks = {
        "read other box": str(prison.others_disk),
        "write other box": str(prison.others_disk),
        "read database": str(prison.database),
        "read users": "/etc/passwd",
        "names of processes": "/proc",
        "connect": victims.port,
        "connect_by_name": victims.name,
        "fork": None,
        "namespace": None,
        "run": "/bin/true",
    }
    outcomes, status = prison.attack(None, attacks | {"run": "/bin/true"})
    assert [name for name, outcome in outcomes.items() if isinstance(outcome, str)] == []
    # The last one became another program.
    assert (set(attacks) - set(outcomes), status) == ({"run"}, 0)
    assert prison.attack(None, {"kill": victims.process}) == ({"kill": None}, 0)


def test_no_file_of_the_host_or_of_another_box_is_there(prison: Prison) -> None:
    attacks = files_of_others(prison)
    folders = {f"names of {folder}": str(prison.path / folder) for folder in ("boxes", "sockets", "disks")}
    found, status = prison.attack(jail_of(prison), attacks | folders | {"names of /": "/"})
    visible = {"bin", "dev", "lib", "lib32", "lib64", "libx32", "sbin", "tmp", "usr"}
    assert set(found.pop("names of /")) <= visible
    assert [found.pop(name) for name in folders] == [["mine"], ["mine"], ["base"]]
    assert found == dict.fromkeys(attacks, "ENOENT")
    assert status == 0


def test_what_is_the_machines_own_is_there_and_no_more_than_it_needs_can_be_written(prison: Prison) -> None:
    before = prison.base.read_bytes()
    attacks: Attacks = {
        "read disk": str(prison.disk),
        "write disk": str(prison.disk),
        "read base": str(prison.base),
        "write base": str(prison.base),
        "names of own sockets": str(prison.sockets),
        "create socket": str(prison.sockets / "impostor"),
        "create": "/file",
        "create device": "/dev/file",
        "create beside": str(prison.disk.with_name("file")),
        "names of own folder": str(prison.disk.parent),
    }
    found, _ = prison.attack(jail_of(prison), attacks)
    # libkrun has no file to make at all, since it has a directory where it might.
    refused = "EROFS" if prison.kind is VmmKind.QEMU else "ENOSYS"
    # The group may read what machines share, and nobody may write it, by its mode or by its mount.
    assert found.pop("write base") in ("EACCES", "EROFS")
    assert found == {
        "read disk": 64,
        "write disk": 6,
        "read base": 64,
        "names of own sockets": [],
        "create socket": refused,
        "create": refused,
        "create device": refused,
        "create beside": refused,
        "names of own folder": ["disk"],
    }
    assert prison.base.read_bytes() == before
    assert prison.disk.read_bytes().startswith(b"attack")


def test_the_directory_of_its_sockets_is_the_one_in_which_libkrun_makes_some(prison: Prison) -> None:
    """And a filter sees to it that it makes nothing else there, which the host might follow or fall over."""
    attacks: Attacks = {
        "bind": str(prison.sockets / "agent"),
        "link": str(prison.sockets / "link"),
        "folder": str(prison.sockets / "folder"),
        "bind beside": str(prison.disk.with_name("socket")),
        "bind to other box": str(prison.sockets.with_name("other") / "agent"),
        "names of own sockets": str(prison.sockets),
    }
    found, _ = prison.attack(jail_of(prison), attacks)
    if prison.kind is VmmKind.QEMU:
        assert found.pop("names of own sockets") == []
        assert set(found.values()) == {"ENOSYS"}
        return
    assert found == {
        "bind": None,
        "link": "ENOSYS",
        "folder": "ENOSYS",
        "bind beside": "EROFS",
        "bind to other box": "ENOENT",
        "names of own sockets": ["agent"],
    }
    (prison.sockets / "agent").unlink()


def test_a_machine_that_is_to_be_saved_makes_files_in_one_directory_more(prison: Prison) -> None:
    """Of libkrun; QEMU has a file for its memory, and makes none."""
    if prison.kind is VmmKind.QEMU:
        return
    saves = prison.disk.with_name("memory.saving")
    saves.mkdir(mode=0o700)
    os.chown(saves, prison.path.stat().st_uid, -1)
    attacks: Attacks = {
        "create": str(saves / "memory.bin"),
        "folder": str(saves / "saved"),
        "create beside": str(prison.disk.with_name("file")),
        "create in home": str(prison.path / "file"),
        "create device": "/dev/file",
        "read other box": str(prison.others_disk),
        "write base": str(prison.base),
        "mount": None,
        "namespace": None,
    }
    try:
        found, _ = prison.attack(jail_of(prison), attacks, saves=saves)
        assert sorted(path.name for path in saves.iterdir()) == ["memory.bin", "saved"]
    finally:
        shutil.rmtree(saves)
    assert (found.pop("create"), found.pop("folder")) == (None, None)
    assert found.pop("write base") in ("EACCES", "EROFS")
    assert set(found.values()) <= {"EROFS", "ENOENT", "ENOSYS", "EPERM"}, found


def test_no_process_and_no_network_of_the_host_is_there(prison: Prison, victims: Victims) -> None:
    """By namespaces alone, without a filter that would refuse the calls."""
    attacks = {
        "kill": victims.process,
        "trace": victims.process,
        "connect": victims.port,
        "connect_by_name": victims.name,
    }
    found, _ = prison.attack(jail_of(prison, None), attacks)
    assert found == {"kill": "ESRCH", "trace": "ESRCH", "connect": "ECONNREFUSED", "connect_by_name": "ECONNREFUSED"}


def test_nothing_of_the_host_was_inherited(prison: Prison) -> None:
    found, _ = prison.attack(jail_of(prison), {"inherited": None, "environment": None, "identity": None})
    owner = prison.path.stat().st_uid
    user, group = (owner, owner) if owner else (JAIL_USER, JAIL_GID)
    if os.geteuid() != 0:
        group = os.getegid()
    assert found["inherited"] == []
    assert set(found["environment"]) <= {"PATH", "PWD", "LC_CTYPE"}
    assert found["identity"][:3] == [1, user, group]


def test_calls_that_no_engine_needs_are_as_if_the_kernel_did_not_have_them(prison: Prison) -> None:
    found, status = prison.attack(jail_of(prison), CALLS)
    assert found == dict.fromkeys(CALLS, "ENOSYS")
    assert status == 0


@pytest.mark.parametrize("name", CALLS)
def test_in_the_maximum_such_a_call_ends_the_machine(prison: Prison, name: str) -> None:
    found, status = prison.attack(jail_of(prison, Refusal.KILL), {name: CALLS[name], "identity": None})
    if name == "ring":
        # Some libraries try it first, and do without.
        assert found[name] == "ENOSYS"
    else:
        assert (found, status) == ({}, signal.SIGSYS)


def test_without_a_filter_the_namespaces_still_refuse(prison: Prison) -> None:
    attacks: Attacks = {"mount": None, "node": "/dev/node", "node on disk": str(prison.disk.with_name("node"))}
    found, _ = prison.attack(jail_of(prison, None), attacks)
    assert set(found.values()) <= {"EPERM", "EROFS"}
    assert len(found) == 3


def test_a_filter_alone_refuses_as_well(prison: Prison) -> None:
    """Where a host has no bubblewrap."""
    found, _ = prison.attack(JailSpec(calls=Refusal.ABSENT), CALLS)
    assert found == dict.fromkeys(CALLS, "ENOSYS")


def test_threads_and_files_end_somewhere(prison: Prison) -> None:
    attacks: Attacks = {"threads": 5 * THREADS, "files": 5 * FILES, "lock": 1 << 20, "loosen": None}
    found, _ = prison.attack(jail_of(prison), attacks)
    assert THREADS // 2 < found.pop("threads") <= THREADS + 1
    assert found.pop("files") <= FILES
    assert found == {"lock": "EPERM", "loosen": "EPERM"}


def test_no_file_grows(prison: Prison) -> None:
    before = prison.disk.stat().st_size
    found, _ = prison.attack(jail_of(prison), {"grow": str(prison.disk)})
    assert found == {"grow": "EFBIG"}
    assert prison.disk.stat().st_size == before


def test_no_other_program_is_there_to_be_run(prison: Prison) -> None:
    attacks = {"run shell": "/bin/sh", "run busybox": "/usr/bin/busybox", "run bwrap": BWRAP}
    found, _ = prison.attack(jail_of(prison), attacks)
    assert found == dict.fromkeys(attacks, "ENOENT")


def test_the_user_of_another_box_is_another_one(prison: Prison) -> None:
    """So that what is left of a machine, without its namespaces, could still not touch the other's disk."""
    if prison.path.stat().st_uid != 0:
        pytest.skip("the machines of an ordinary user are all that user's: docs/security.md")
    prison.attack(jail_of(prison), {"identity": None})
    assert prison.disk.stat().st_uid == JAIL_USER
    other = attrs.evolve(jail_of(prison), uid=JAIL_USER + 1)
    _, status = prison.attack(other, {"write disk": str(prison.disk)})
    assert status == 0
    assert prison.disk.stat().st_uid == JAIL_USER + 1
    assert oct(prison.disk.stat().st_mode & 0o077) == "0o0"
    assert _bystander(prison.disk, JAIL_USER) == "PermissionError"


def test_what_was_another_user_s_machine_s_can_be_used_by_one_that_is_root_s(prison: Prison) -> None:
    """In namespaces root has no right to the files of others."""
    if prison.path.stat().st_uid != 0:
        pytest.skip("the machines of an ordinary user are all that user's: docs/security.md")
    prison.attack(jail_of(prison), {"identity": None})
    found, _ = prison.attack(attrs.evolve(jail_of(prison), uid=None), {"write": str(prison.disk), "identity": None})
    assert found == {"write": 6, "identity": [1, 0, 0, 0]}


def _bystander(path: Path, user: int) -> str:
    """What a process of that user meets, outside of any jail; the folders on the way let it through."""
    program = f"import sys\ntry: open({str(path)!r}, 'rb')\nexcept OSError as error: print(type(error).__name__)"
    opened = [folder for folder in path.parents if not folder.stat().st_mode & 0o001]
    for folder in opened:
        folder.chmod(folder.stat().st_mode | 0o011)
    try:
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-c", program], user=user, group=JAIL_GID, extra_groups=[], capture_output=True
        )
    finally:
        for folder in opened:
            folder.chmod(folder.stat().st_mode & ~0o011)
    return done.stdout.decode().strip()
