"""The datagrams between the host and its zygote: one JSON object each, over a SOCK_SEQPACKET pair.

Host to zygote: `Spawn` (with the console's write end as SCM_RIGHTS ancillary data) and `Kill`. Zygote to host:
`Spawned` or `Failed` for each `Spawn`, then `Exited` for each `Spawned`. `key` is the host's name for the instance,
unique in the zygote's life, so that no message can be about a recycled pid.

A `Spawn` with `keep` brings no descriptor, and its `Spawned` is the last that is heard of it here: the machine has a
keeper (`vmm_ffi.keeper`), and its host watches both by their identities.
"""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from vmm_ffi.spec.identity import ProcessIdentity
from vmm_ffi.spec.instance import InstanceSpec
from vmm_ffi.spec.paths import absolute

MAX_DATAGRAM: Final = 128 * 1024
"""Bytes; Linux lets a little more than this pass in one piece by default (socket(7), wmem_default)."""

SHIM_FAILED: Final = 125
"""The exit status of a shim that could not become its virtual machine; the console says why."""


@attrs.frozen
class Keep:
    """How a machine outlives its host: its keeper has files in `directory`, and `sockets` goes into its record."""

    directory: str = attrs.field(validator=absolute)
    sockets: str = attrs.field(validator=absolute)


@attrs.frozen
class Spawn:
    """Fork a shim that becomes this virtual machine."""

    key: int
    spec: InstanceSpec
    keep: Keep | None = None


@attrs.frozen
class Kill:
    """Send a signal to the shim; nothing happens when it has ended already."""

    key: int
    signal: int


@attrs.frozen
class Spawned:
    """The shim runs, as this process; a kept one has a keeper."""

    key: int
    process: ProcessIdentity
    keeper: ProcessIdentity | None = None


@attrs.frozen
class Failed:
    """No shim could be forked. `errno` is that of the system call that failed, where it was one."""

    key: int
    error: str
    errno: int | None = None


@attrs.frozen
class Exited:
    """The shim has ended and is reaped; `status` is as `os.waitpid` gives it.

    `cause` says why, where the zygote has killed it on its own account.
    """

    key: int
    status: int
    cause: str = ""


_REQUESTS = {"spawn": Spawn, "kill": Kill}
_EVENTS = {"spawned": Spawned, "failed": Failed, "exited": Exited}
_NAMES = {kind: name for name, kind in (_REQUESTS | _EVENTS).items()}


def encode(message: Spawn | Kill | Spawned | Failed | Exited) -> bytes:
    """The datagram of one message."""
    return json.dumps({"type": _NAMES[type(message)]} | attrs.asdict(message)).encode()


def decode_request(datagram: bytes) -> Spawn | Kill:
    """What the host sent; raises ValueError, KeyError or TypeError for anything else."""
    fields = _fields(datagram)
    kind = _REQUESTS[fields.pop("type")]
    if kind is Spawn:
        fields["spec"] = InstanceSpec.from_json(fields["spec"])
        if fields.get("keep") is not None:
            fields["keep"] = Keep(**fields["keep"])
    message: Spawn | Kill = kind(**fields)
    return message


def decode_event(datagram: bytes) -> Spawned | Failed | Exited:
    """What the zygote sent; raises ValueError, KeyError or TypeError for anything else."""
    fields = _fields(datagram)
    kind = _EVENTS[fields.pop("type")]
    if kind is Spawned:
        fields["process"] = ProcessIdentity.from_json(fields["process"])
        if fields.get("keeper") is not None:
            fields["keeper"] = ProcessIdentity.from_json(fields["keeper"])
    message: Spawned | Failed | Exited = kind(**fields)
    return message


def key_of(datagram: bytes) -> int | None:
    """The key in a datagram that could not be decoded, as far as there is one, so that it can be answered."""
    try:
        key = _fields(datagram).get("key")
    except ValueError:
        return None
    return key if isinstance(key, int) else None


def _fields(datagram: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(datagram)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    return fields
