"""The description of one virtual machine, as data that travels between processes."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

import attrs

from vmm_ffi.spec.jail import JailSpec
from vmm_ffi.spec.paths import SpecError, absolute

AGENT_PORT = 2695
"""The vsock port (krun) or virtio-serial port (qemu) that carries the portal."""

READY_PORT = 2696
"""The port over which the guest says, once, that its agent serves."""

MAX_SOCKET_PATH = 107
"""Longest path of a Unix socket, in bytes: sockaddr_un.sun_path less its NUL (unix(7))."""

MAX_SERIAL = 20
"""Longest serial number of a disk (virtio 1.2, VIRTIO_BLK_T_GET_ID)."""

SHARE_TAG = "boxlite"
"""By which the guest mounts the shares (virtio 1.2, 5.11): one file system with a directory or a file for each."""

SHARE_LINK = 3
"""The descriptor by which a machine (qemu) is connected to its `InstanceSpec.share_server`."""

SHARE_PORT = 2697
"""The vsock port (krun) over which the guest's kernel reaches its shares."""

SNAPSHOT_CALLS = ("krun_set_control_socket", "krun_set_snapshot", "krun_set_snapshot_memory_fd")
"""By which libkrun saves and restores machines: a library without one of them does neither."""

_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SHARE_NAME = re.compile(r"[a-z0-9]{1,32}")
_MAC_ADDRESS = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_KERNEL_ARGUMENT = re.compile(r"[!-~]+")


class VmmKind(enum.StrEnum):
    """The engines: which program turns the shim into a virtual machine."""

    QEMU = "qemu"
    KRUN = "krun"


class Accelerator(enum.StrEnum):
    """What executes the guest's instructions; libkrun has KVM alone."""

    KVM = "kvm"
    TCG = "tcg"


def _token(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise SpecError(f"{attribute.name} must be 1 to 64 of [A-Za-z0-9_.-], not {value!r}")


def _serial(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    _token(instance, attribute, value)
    if len(value) > MAX_SERIAL:
        raise SpecError(f"{attribute.name} takes {MAX_SERIAL} characters, not {value!r}")


def _socket_path(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    absolute(instance, attribute, value)
    length = len(value.encode(errors="surrogateescape"))
    if length > MAX_SOCKET_PATH:
        raise SpecError(f"{attribute.name} has {length} bytes, a Unix socket takes {MAX_SOCKET_PATH}: {value}")


def _kernel_arguments(instance: object, attribute: attrs.Attribute[Any], value: Iterable[object]) -> None:
    for argument in value:
        if not isinstance(argument, str) or not _KERNEL_ARGUMENT.fullmatch(argument):
            raise SpecError(f"{attribute.name} are printable ASCII without spaces, not {argument!r}")


def _mac_address(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    # The lowest bit of the first byte would make it a group of stations (IEEE 802).
    if not isinstance(value, str) or not _MAC_ADDRESS.fullmatch(value) or int(value[:2], 16) & 1:
        raise SpecError(f"{attribute.name} must be the address of one station, as 52:54:00:12:34:56, not {value!r}")


def _share_name(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not _SHARE_NAME.fullmatch(value):
        raise SpecError(f"{attribute.name} must be 1 to 32 of [a-z0-9], not {value!r}")


def _flag(instance: object, attribute: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise SpecError(f"{attribute.name} is true or false, not {value!r}")


def _at_least(least: int) -> Any:
    def check(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
        if not isinstance(value, int) or value < least:
            raise SpecError(f"{attribute.name} must be a number of at least {least}, not {value!r}")

    return check


def _unique(name: str, values: Iterable[object]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise SpecError(f"{name} {value!r} is given twice")
        seen.add(value)


@attrs.frozen
class DiskSpec:
    """A raw disk image, which the guest finds by its serial number."""

    path: str = attrs.field(validator=absolute)
    serial: str = attrs.field(validator=_serial)
    read_only: bool = True


@attrs.frozen
class PortSpec:
    """A byte stream between guest and host: `path` is a Unix socket on which the host listens.

    With `reconnect` the engine connects as soon as somebody listens, and again whenever the connection has ended;
    without, it connects once, and does not start where nobody listens. With `served`, which krun alone can, it is the
    other way round: the engine listens, and the host connects as often as it likes.
    """

    number: int = attrs.field(validator=_at_least(1))
    path: str = attrs.field(validator=_socket_path)
    reconnect: bool = False
    served: bool = False


class ProxyKind(enum.StrEnum):
    """Programs of the host's that carry a guest's network, and how frames reach them: by a stream, or by datagrams."""

    PASST = "passt"
    GVPROXY = "gvproxy"


@attrs.frozen
class NetworkProxy:
    """Such a program, which listens on the Unix socket `path`."""

    kind: ProxyKind
    path: str = attrs.field(validator=_socket_path)


@attrs.frozen
class MemoryFile:
    """A file of the machine's memory, as large as that is.

    A shared one has what the machine writes; over one that is not shared, its writes are its own and leave the file as
    it is (mmap(2), MAP_SHARED and MAP_PRIVATE).
    """

    path: str = attrs.field(validator=absolute)
    shared: bool


@attrs.frozen
class ShareSpec:
    """A directory or a file of the host that the guest sees, under `name` in the file system with the tag `SHARE_TAG`.

    `path` must have no symbolic link in it. Whoever serves it holds the guest to `read_only`, whatever that mounts.
    """

    name: str = attrs.field(validator=_share_name)
    path: str = attrs.field(validator=absolute)
    read_only: bool = attrs.field(default=True, validator=_flag)


@attrs.frozen
class InstanceSpec:
    """Everything that an engine needs to know of one virtual machine.

    The first of `disks` is the guest's root, whose `/init` runs. Sizes are in MiB. `kernel` is an ELF file that QEMU
    boots by PVH, and krun as well. The console goes to the shim's standard output. Constructing one raises
    `SpecError` where a field is out of its range.
    """

    box_id: str = attrs.field(validator=_token)
    kind: VmmKind
    kernel: str = attrs.field(validator=absolute)
    disks: tuple[DiskSpec, ...] = attrs.field(validator=attrs.validators.min_len(1))
    ports: tuple[PortSpec, ...] = ()
    shares: tuple[ShareSpec, ...] = ()
    share_server: str | None = attrs.field(default=None, validator=attrs.validators.optional(absolute))
    """Path of virtiofsd, without which there are no shares."""
    share_socket: str | None = attrs.field(default=None, validator=attrs.validators.optional(_socket_path))
    """Unix socket that leads to that server: under qemu for a moment, until the machine is connected to it; under krun
    the guest connects to it, once."""
    kernel_args: tuple[str, ...] = attrs.field(default=(), validator=_kernel_arguments)
    cpus: int = attrs.field(default=1, validator=_at_least(1))
    memory_mib: int = attrs.field(default=256, validator=_at_least(64))
    memory_file: MemoryFile | None = None
    """None keeps the memory nowhere but in the machine's process."""
    incoming: bool = False
    """Whether it goes on from the state of a saved machine, instead of booting: qemu gets it by the monitor."""
    state_directory: str | None = attrs.field(default=None, validator=attrs.validators.optional(absolute))
    """Under krun: a directory in which it saves itself (with a shared memory file), or (`incoming`) one was saved."""
    accelerator: Accelerator = Accelerator.TCG
    parallel_cpus: bool = False
    """Under TCG: a host thread for each virtual CPU. Needs a QEMU in which that works; see `boxlite.vmm.engines`."""
    tsc_khz: int | None = attrs.field(default=None, validator=attrs.validators.optional(_at_least(1)))
    """Under TCG: the rate of the host's time stamp counter, and so the guest's; None lets the guest measure it."""
    nested: bool = False
    """Whether the guest may run virtual machines of its own, on a /dev/kvm. A guest that is trusted alone gets it."""
    network: bool = False
    proxy: NetworkProxy | None = None
    """Under krun: what carries the network; None lets libkrun make the guest's connections itself (TSI)."""
    mac_address: str | None = attrs.field(default=None, validator=attrs.validators.optional(_mac_address))
    """Of the network device, as in 52:54:00:12:34:56; None leaves it to the engine, which gives all the same one."""
    program: str | None = attrs.field(default=None, validator=attrs.validators.optional(absolute))
    """Path of QEMU; None looks in PATH."""
    library: str | None = attrs.field(default=None, validator=attrs.validators.optional(absolute))
    """Path of libkrun, without which krun cannot begin."""
    monitor: str | None = attrs.field(default=None, validator=attrs.validators.optional(_socket_path))
    """Unix socket for what acts on the machine past its guest; None for no such thing.

    The host listens on it for QEMU's monitor (QMP), with reconnect; libkrun listens on it itself, for commands.
    """
    reconnect_in_ms: bool = False
    """Whether this QEMU takes the time until it reconnects in milliseconds; see `boxlite.vmm.engines`."""
    jail: JailSpec | None = None
    """What confines its process, beyond what every one has; None for nothing."""

    def __attrs_post_init__(self) -> None:
        """The guest tells disks by serial number, ports by number and shares by name, so each must be unique."""
        _unique("the disk serial", (disk.serial for disk in self.disks))
        _unique("the port", (port.number for port in self.ports))
        _unique("the share", (share.name for share in self.shares))

    def to_json(self) -> dict[str, Any]:
        """The same as `from_json` takes: nothing but dicts, lists, strings, numbers and booleans."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError (`SpecError` is one), KeyError or TypeError for what is not a specification."""
        fields = dict(data)
        memory_file, proxy, jail = fields["memory_file"], fields["proxy"], fields["jail"]
        return cls(
            **fields
            | {
                "kind": VmmKind(fields["kind"]),
                "accelerator": Accelerator(fields["accelerator"]),
                "disks": tuple(DiskSpec(**disk) for disk in fields["disks"]),
                "memory_file": None if memory_file is None else MemoryFile(**memory_file),
                "proxy": None if proxy is None else NetworkProxy(**proxy | {"kind": ProxyKind(proxy["kind"])}),
                "jail": None if jail is None else JailSpec.from_json(jail),
                "ports": tuple(PortSpec(**port) for port in fields["ports"]),
                "shares": tuple(ShareSpec(**share) for share in fields["shares"]),
                "kernel_args": tuple(fields["kernel_args"]),
            }
        )
