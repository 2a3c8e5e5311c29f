"""The description of one virtual machine, as data that travels between processes."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any, Self

import attrs

AGENT_PORT = 2695
"""The vsock port (krun) or virtio-serial port (qemu) that carries the portal."""

READY_PORT = 2696
"""The port over which the guest says, once, that its agent serves."""

MAX_SOCKET_PATH = 107
"""Longest path of a Unix socket, in bytes: sockaddr_un.sun_path less its NUL (unix(7))."""

_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class SpecError(ValueError):
    """A field of an `InstanceSpec` that no engine could honour."""


class VmmKind(enum.StrEnum):
    """The engines: which program turns the shim into a virtual machine."""

    QEMU = "qemu"
    KRUN = "krun"


class Accelerator(enum.StrEnum):
    """What executes the guest's instructions under QEMU."""

    KVM = "kvm"
    TCG = "tcg"


def _token(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not _TOKEN.fullmatch(value):
        raise SpecError(f"{attribute.name} must be 1 to 64 of [A-Za-z0-9_.-], not {value!r}")


def _absolute(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not value.startswith("/") or "\0" in value:
        raise SpecError(f"{attribute.name} must be an absolute path, not {value!r}")


def _socket_path(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    _absolute(instance, attribute, value)
    length = len(value.encode())
    if length > MAX_SOCKET_PATH:
        raise SpecError(f"{attribute.name} has {length} bytes, a Unix socket takes {MAX_SOCKET_PATH}: {value}")


def _at_least(least: int) -> Any:
    def check(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
        if value < least:
            raise SpecError(f"{attribute.name} must be at least {least}, not {value}")

    return check


@attrs.frozen
class DiskSpec:
    """A raw disk image, which the guest finds by its serial number."""

    path: str = attrs.field(validator=_absolute)
    serial: str = attrs.field(validator=[_token, attrs.validators.max_len(20)])
    read_only: bool = True


@attrs.frozen
class PortSpec:
    """A byte stream between guest and host: `path` is a Unix socket on which the host listens."""

    number: int
    path: str = attrs.field(validator=_socket_path)


@attrs.frozen
class InstanceSpec:
    """Everything that an engine needs to know of one virtual machine.

    The first of `disks` is the guest's root. Sizes are in MiB. `kernel` is an ELF file that QEMU boots by PVH;
    krun brings its own. The console goes to the shim's standard output.
    """

    box_id: str = attrs.field(validator=_token)
    kind: VmmKind
    kernel: str = attrs.field(validator=_absolute)
    disks: tuple[DiskSpec, ...] = attrs.field(validator=attrs.validators.min_len(1))
    ports: tuple[PortSpec, ...] = ()
    kernel_args: tuple[str, ...] = ()
    cpus: int = attrs.field(default=1, validator=_at_least(1))
    memory_mib: int = attrs.field(default=256, validator=_at_least(64))
    accelerator: Accelerator = Accelerator.TCG
    network: bool = False
    program: str | None = attrs.field(default=None, validator=attrs.validators.optional(_absolute))
    """Path of QEMU; None looks in PATH."""

    def to_json(self) -> dict[str, Any]:
        """The same as `from_json` takes: nothing but dicts, lists, strings, numbers and booleans."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises `SpecError` or `TypeError` for what is not a specification."""
        fields = dict(data)
        return cls(
            **fields
            | {
                "kind": VmmKind(fields["kind"]),
                "accelerator": Accelerator(fields["accelerator"]),
                "disks": tuple(DiskSpec(**disk) for disk in fields["disks"]),
                "ports": tuple(PortSpec(**port) for port in fields["ports"]),
                "kernel_args": tuple(fields["kernel_args"]),
            }
        )
