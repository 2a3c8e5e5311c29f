"""What is kept of a virtual machine outside its own process, and how it is written."""

from __future__ import annotations

from typing import Any, Self

import attrs

from vmm_ffi.spec.identity import ProcessIdentity


@attrs.frozen
class VmRecord:
    """By what a virtual machine is found again after its runtime has ended."""

    process: ProcessIdentity
    keeper: ProcessIdentity | None
    """The process that outlives the runtime with it, drains its console and writes its exit file; None where it does
    not outlive the runtime."""
    sockets: str
    """Path without suffix of its Unix sockets."""
    nonce: str
    """What the agent was told at boot, by which it knows its host again."""

    def to_json(self) -> dict[str, Any]:
        """The same as `from_json` takes: nothing but dicts, strings, numbers and None."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises ValueError or TypeError for what is no record."""
        if not isinstance(data, dict):
            raise ValueError(f"not an object: {data!r}")
        fields = dict(data)
        for name in ("sockets", "nonce"):
            if not isinstance(fields.get(name), str):
                raise ValueError(f"{name} must be a text, not {fields.get(name)!r}")
        keeper = fields.get("keeper")
        return cls(
            **fields
            | {
                "process": ProcessIdentity.from_json(fields.get("process")),
                "keeper": None if keeper is None else ProcessIdentity.from_json(keeper),
            }
        )
