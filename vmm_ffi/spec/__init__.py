"""What host and zygote tell each other: the part of `vmm_ffi` that the host process may import."""

from vmm_ffi.spec.identity import ProcessIdentity, identity_of, read_boot_id
from vmm_ffi.spec.instance import (
    AGENT_PORT,
    MAX_SOCKET_PATH,
    READY_PORT,
    Accelerator,
    DiskSpec,
    InstanceSpec,
    PortSpec,
    SpecError,
    VmmKind,
)
from vmm_ffi.spec.messages import (
    MAX_DATAGRAM,
    SHIM_FAILED,
    Exited,
    Failed,
    Kill,
    Spawn,
    Spawned,
    decode_event,
    decode_request,
    encode,
    key_of,
)
from vmm_ffi.spec.records import VmRecord

__all__ = [
    "AGENT_PORT",
    "MAX_DATAGRAM",
    "MAX_SOCKET_PATH",
    "READY_PORT",
    "SHIM_FAILED",
    "Accelerator",
    "DiskSpec",
    "Exited",
    "Failed",
    "InstanceSpec",
    "Kill",
    "PortSpec",
    "ProcessIdentity",
    "Spawn",
    "Spawned",
    "SpecError",
    "VmRecord",
    "VmmKind",
    "decode_event",
    "decode_request",
    "encode",
    "identity_of",
    "key_of",
    "read_boot_id",
]
