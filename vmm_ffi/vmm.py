"""What every engine is: something that turns the process it runs in into a virtual machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NoReturn

import attrs

from vmm_ffi.spec import InstanceSpec
from vmm_ffi.vmm_error import VmmError

__all__ = ["Needs", "Vmm", "VmmError", "VmmInstance"]


@attrs.frozen
class Needs:
    """What an engine needs of the host's files, besides the disks, the memory and the sockets of its machine."""

    read_only: tuple[str, ...]
    """Programs, libraries and data: files, or directories with all that is in them."""
    devices: tuple[str, ...] = ()


class VmmInstance(ABC):
    """One virtual machine, about to run."""

    @property
    def command(self) -> Sequence[str]:
        """The program that becomes the machine inside a jail, by its absolute path, and its arguments.

        Raises `VmmError` for an engine that has none.
        """
        raise VmmError("this engine has no program of its own, and so no namespaces")

    @property
    def needs(self) -> Needs:
        """What that program must find where it runs."""
        return Needs(())

    @abstractmethod
    def enter(self) -> NoReturn:
        """Turns the calling process into the virtual machine, which ends with it.

        Does not return; raises `VmmError` or OSError where it could not begin.
        """


class Vmm(ABC):
    """An engine."""

    @abstractmethod
    def create(self, spec: InstanceSpec) -> VmmInstance:
        """Prepares a virtual machine, and starts nothing; raises `VmmError`."""
