"""What is kept of a virtual machine outside its own process, and how it is written."""

from __future__ import annotations

import json
import os
from typing import Any, Final, Self

import attrs

from vmm_ffi.spec.identity import ProcessIdentity
from vmm_ffi.spec.instance import VmmKind
from vmm_ffi.spec.paths import absolute

VM_FILE: Final = "vm.json"
"""In the directory of a kept machine: its `VmRecord`, from before its first instruction on."""

EXIT_FILE: Final = "exit.json"
"""In the same place: an `ExitNote`, from the machine's end on."""

CONSOLE_FILE: Final = "console.log"
"""In the same place: the last of what the machine printed, at least `CONSOLE_BYTES` where it printed that many."""

CONSOLE_BYTES: Final = 64 * 1024

_MAX_STATUS = 0xFFFF


@attrs.frozen
class VmRecord:
    """By what a virtual machine is found again after its runtime has ended."""

    process: ProcessIdentity
    keeper: ProcessIdentity | None
    """The process that outlives the runtime with it, drains its console and writes its exit file; None where it does
    not outlive the runtime."""
    sockets: str = attrs.field(validator=absolute)
    """The directory of its Unix sockets."""
    kind: VmmKind = VmmKind.QEMU
    """The engine that it runs on."""

    def to_json(self) -> dict[str, Any]:
        """The same as `from_json` takes: nothing but dicts, strings, numbers and None."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises ValueError or TypeError for what is no record."""
        if not isinstance(data, dict):
            raise ValueError(f"not an object: {data!r}")
        fields, keeper = dict(data), data.get("keeper")
        return cls(
            **fields
            | {
                "process": ProcessIdentity.from_json(fields.get("process")),
                "keeper": None if keeper is None else ProcessIdentity.from_json(keeper),
                "kind": VmmKind(data.get("kind", VmmKind.QEMU)),
            }
        )


@attrs.frozen
class ExitNote:
    """How a kept machine ended. `status` is as `os.waitpid` gives it, of a process that is no more.

    `cause` says why, where its keeper has killed it.
    """

    process: ProcessIdentity
    status: int
    cause: str = attrs.field(default="", validator=attrs.validators.instance_of(str))

    def __attrs_post_init__(self) -> None:
        if type(self.status) is not int or not 0 <= self.status <= _MAX_STATUS:
            raise ValueError(f"status must be one of waitpid(2), not {self.status!r}")
        # Raises ValueError for that of a process which was stopped or continued.
        os.waitstatus_to_exitcode(self.status)

    def to_json(self) -> dict[str, Any]:
        """The same as `from_json` takes."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises ValueError or TypeError for what is no note."""
        if not isinstance(data, dict):
            raise ValueError(f"not an object: {data!r}")
        return cls(**data | {"process": ProcessIdentity.from_json(data.get("process"))})


def encode_file(content: VmRecord | ExitNote) -> bytes:
    """What is in `VM_FILE` or `EXIT_FILE`."""
    return json.dumps(content.to_json()).encode() + b"\n"


def decode_record(content: bytes) -> VmRecord | None:
    """What `VM_FILE` says; None where it is damaged."""
    try:
        return VmRecord.from_json(json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return None


def decode_exit(content: bytes) -> ExitNote | None:
    """What `EXIT_FILE` says; None where it is damaged."""
    try:
        return ExitNote.from_json(json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return None
