"""Attackers in the place of a box's machine, in the jail that a box has."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attr
import attrs

import vmm_ffi
from vmm_ffi.spec import (
    AGENT_PORT,
    MAX_DATAGRAM,
    Accelerator,
    DiskSpec,
    Exited,
    InstanceSpec,
    JailSpec,
    MemoryFile,
    PortSpec,
    Spawn,
    Spawned,
    VmmKind,
    decode_event,
    encode,
)

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
"""The distribution's where there is one: every user may run it, wherever the tests' own is."""

NOBODY = 65534
JAIL_USER = 1_900_000_007

Attacks = dict[str, Any]
Outcomes = dict[str, Any]


@attrs.frozen
class Prison:
    """A zygote whose machines are attackers, a home with two boxes, and what a host has besides."""

    path: Path
    """Of the home, which belongs to the user of the zygote."""
    host: socket.socket
    zygote: subprocess.Popen[bytes]
    kind: VmmKind

    @property
    def disk(self) -> Path:
        return self.path / "boxes" / "mine" / "disk"

    @property
    def base(self) -> Path:
        return self.path / "disks" / "base"

    @property
    def others_disk(self) -> Path:
        return self.path / "boxes" / "other" / "disk"

    @property
    def database(self) -> Path:
        return self.path / "boxlite.db"

    @property
    def sockets(self) -> Path:
        return self.path / "sockets" / "mine"

    def attack(
        self, jail: JailSpec | None, attacks: Attacks, key: int = 1, saves: Path | None = None
    ) -> tuple[Outcomes, int]:
        """What each attack came to, as far as the attacker lived to say so, and the status of its end.

        With `saves`, the machine is one that is to be saved, in this directory.
        """
        spec = InstanceSpec(
            box_id="mine",
            kind=self.kind,
            accelerator=Accelerator.KVM if self.kind is VmmKind.KRUN else Accelerator.TCG,
            kernel=str(self.base),
            disks=(DiskSpec(str(self.base), "base"), DiskSpec(str(self.disk), "scratch", read_only=False)),
            ports=(PortSpec(AGENT_PORT, str(self.sockets / "agent"), served=self.kind is VmmKind.KRUN),),
            kernel_args=(json.dumps(attacks).encode().hex(),),
            jail=jail,
            memory_file=None if saves is None else MemoryFile(str(saves.with_name("memory")), shared=True),
            state_directory=None if saves is None else str(saves),
        )
        read_end, write_end = os.pipe()
        with open(read_end, "rb") as console:
            try:
                socket.send_fds(self.host, [encode(Spawn(key, spec))], [write_end])
            finally:
                os.close(write_end)
            said = console.read()
        assert isinstance(decode_event(self.host.recv(MAX_DATAGRAM)), Spawned), said
        ended = decode_event(self.host.recv(MAX_DATAGRAM))
        assert isinstance(ended, Exited)
        outcomes: Outcomes = {}
        for line in said.splitlines():
            assert line.startswith(b"{"), said.decode()
            outcome = json.loads(line)
            outcomes[outcome["name"]] = outcome.get("error", outcome.get("done"))
        return outcomes, ended.status


@contextmanager
def open_prison(user: int | None, kind: VmmKind = VmmKind.QEMU) -> Iterator[Prison]:
    """With `user`, which takes root, all of it is that user's. The jail is that of the engine `kind`."""
    with tempfile.TemporaryDirectory(prefix="boxlite-test-") as directory:
        folder = Path(directory)
        folder.chmod(0o755)
        code = folder / "code"
        for package in (vmm_ffi, attrs, attr):
            source = Path(package.__file__ or "").parent
            shutil.copytree(source, code / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("attacks.py", "cage.py"):
            shutil.copy(Path(__file__).with_name(name), code)
        home = folder / "home"
        _furnish(home)
        if user is not None:
            for path in (home, *home.rglob("*")):
                os.chown(path, user, user)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(20)
        with ours, theirs:
            zygote = subprocess.Popen(
                [PYTHON, "-B", str(code / "cage.py"), str(os.getpid())],
                stdin=theirs.fileno(),
                env={"PYTHONPATH": str(code), "PATH": "/usr/bin:/bin", "SECRET": "of the host"},
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
            theirs.close()
            try:
                yield Prison(home, ours, zygote, kind)
                ours.shutdown(socket.SHUT_WR)
                assert zygote.wait(timeout=10) == 0
            finally:
                zygote.kill()
                zygote.wait()


def _furnish(home: Path) -> None:
    for folder in ("boxes/mine", "boxes/other", "disks", "sockets/mine", "sockets/other"):
        (home / folder).mkdir(parents=True)
    for file in ("boxes/mine/disk", "boxes/other/disk", "disks/base", "boxlite.db"):
        (home / file).write_bytes(b"secret".ljust(4096))
        (home / file).chmod(0o600)
    home.chmod(0o700)
