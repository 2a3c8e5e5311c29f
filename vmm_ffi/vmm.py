"""What every engine is: something that turns the process it runs in into a virtual machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NoReturn

from vmm_ffi.spec import InstanceSpec


class VmmError(Exception):
    """The engine cannot make this virtual machine; the message says what is missing."""


class VmmInstance(ABC):
    """One virtual machine, about to run."""

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
