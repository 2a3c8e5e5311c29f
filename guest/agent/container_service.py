"""The portal's Container service: builds the one container."""

from __future__ import annotations

from guest.agent.container.client import ContainerError
from guest.agent.container.messages import Setup
from guest.agent.container.volumes import encode_volume, is_volume
from guest.agent.disks import is_serial
from guest.agent.files import is_directory
from guest.agent.identity import is_machine_id
from guest.agent.rpc.calls import CallError, Status
from proto.lean.messages import ContainerInitReply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from guest.agent.container.client import ContainerClient
    from proto.lean.messages import ContainerInitRequest, Volume

# What the kernel takes as a name (64 bytes, uname(2)), what cannot break /etc/hosts, and all that a box may be called.
_LONGEST_HOSTNAME = 64
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


def check_names(hostname: str, machine_id: str) -> None:
    """Raises CallError for what no container can be called."""
    if not _is_hostname(hostname):
        raise CallError(Status.INVALID_ARGUMENT, f"not a host name: {hostname[:80]!r}")
    if not is_machine_id(machine_id):
        raise CallError(Status.INVALID_ARGUMENT, f"not a machine id: {machine_id[:80]!r}")


class ContainerService:
    """See guest.proto for the meaning of each call.

    `disks` is the directory below which the disks are mounted by their serial numbers, `root` an empty directory.
    """

    def __init__(self, container: ContainerClient, *, disks: str, root: str) -> None:
        self._container = container
        self._disks = disks
        self._root = root
        self._begun = False
        self._ready = False

    @property
    def container(self) -> ContainerClient:
        """The container; raises CallError before it is built."""
        if not self._ready:
            raise CallError(Status.FAILED_PRECONDITION, "there is no container: Container.Init comes first")
        return self._container

    async def init(self, message: ContainerInitRequest) -> ContainerInitReply:
        """Answers when commands can be started."""
        image, scratch = self._disk(message.image_disk), self._disk(message.scratch_disk)
        check_names(message.hostname, message.machine_id)
        volumes = _encode_volumes(message.volumes)
        if self._begun:
            raise CallError(Status.FAILED_PRECONDITION, "Container.Init is called once")
        self._begun = True
        setup = Setup(image, scratch, self._root, message.hostname, message.machine_id, volumes)
        try:
            await self._container.set_up(setup)
        except ContainerError as error:
            raise CallError(Status.INTERNAL, f"the container cannot be built: {error}") from None
        self._ready = True
        return ContainerInitReply()

    def _disk(self, serial: str) -> str:
        path = f"{self._disks}/{serial}"
        if not is_serial(serial) or not is_directory(path):
            raise CallError(Status.FAILED_PRECONDITION, f"no disk {serial[:40]!r} is mounted: Guest.Init comes first")
        return path


def _encode_volumes(volumes: Sequence[Volume]) -> list[bytes]:
    encoded = []
    for volume in volumes:
        if not is_volume(volume.name, volume.target):
            raise CallError(Status.INVALID_ARGUMENT, f"not a volume: {volume.name[:40]!r} on {volume.target[:80]!r}")
        encoded += encode_volume(volume.name, volume.target, volume.read_only)
    return encoded


def _is_hostname(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_HOSTNAME and text[0] in _LETTERS and set(text) <= _LETTERS | {"_", ".", "-"}
