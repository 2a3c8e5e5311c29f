"""A zygote whose machines are attackers: `python cage.py HOST_PID`, as `vmm_ffi.zygote` is run.

The attacks come in the first of the specification's kernel arguments, in hexadecimal.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

from vmm_ffi.factory import VmmFactory
from vmm_ffi.libraries import library_directories
from vmm_ffi.spec import InstanceSpec, VmmKind
from vmm_ffi.vmm import Needs, Vmm, VmmInstance
from vmm_ffi.zygote import Zygote

PROGRAM = str(Path(__file__).with_name("attacks.py"))


class AttackInstance(VmmInstance):
    """A process that tries to get out."""

    def __init__(self, attacks: str) -> None:
        self._attacks = attacks

    def enter(self) -> NoReturn:
        os.execve(self.command[0], self.command, dict(os.environ))

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-I", "-S", "-B", PROGRAM, self._attacks]

    @property
    def needs(self) -> Needs:
        library = sysconfig.get_path("stdlib")
        program = os.path.realpath(sys.executable)
        return Needs((sys.executable, program, library, *library_directories(program), PROGRAM))


class AttackVmm(Vmm):
    """The engine of attackers."""

    def create(self, spec: InstanceSpec) -> AttackInstance:
        return AttackInstance(bytes.fromhex(spec.kernel_args[0]).decode())


if __name__ == "__main__":
    factory = VmmFactory(dict.fromkeys(VmmKind, AttackVmm))
    Zygote(socket.socket(fileno=os.dup(0)), os.pidfd_open(int(sys.argv[1])), factory).serve()
