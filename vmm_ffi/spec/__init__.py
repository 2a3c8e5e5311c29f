"""What host and zygote tell each other: the part of `vmm_ffi` that the host process may import."""

from vmm_ffi.spec.instance import (
    AGENT_PORT,
    READY_PORT,
    Accelerator,
    DiskSpec,
    InstanceSpec,
    PortSpec,
    SpecError,
    VmmKind,
)
from vmm_ffi.spec.messages import Exited, Failed, Kill, Spawn, Spawned, decode_event, decode_request, encode

__all__ = [
    "AGENT_PORT",
    "READY_PORT",
    "Accelerator",
    "DiskSpec",
    "Exited",
    "Failed",
    "InstanceSpec",
    "Kill",
    "PortSpec",
    "Spawn",
    "Spawned",
    "SpecError",
    "VmmKind",
    "decode_event",
    "decode_request",
    "encode",
]
