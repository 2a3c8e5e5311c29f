"""What confines the process of one virtual machine, as data that travels to where it is done."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, Self

import attrs

from vmm_ffi.spec.paths import absolute

JAIL_GID: Final = 1_900_000_000
"""The group of every jailed machine that root starts; beyond what distributions and containers give out."""

FIRST_JAIL_UID: Final = 1_900_000_000
JAIL_UIDS: Final = 1 << 26
"""Machines that root starts are users of this range, each box another one."""


class Refusal(enum.StrEnum):
    """What a system call meets that an engine does not need."""

    ABSENT = "absent"
    """It fails, as on a kernel that does not have it."""
    KILL = "kill"
    """It ends the machine."""


def _id(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError(f"{attribute.name} must be the number of an ordinary user, not {value!r}")


@attrs.frozen
class JailSpec:
    """The measures to be taken; what is None is not. See docs/security.md for what each one is good for."""

    bwrap: str | None = attrs.field(default=None, validator=attrs.validators.optional(absolute))
    """Path of bubblewrap, which gives the machine namespaces, and a file system with what it needs and nothing else."""
    uid: int | None = attrs.field(default=None, validator=attrs.validators.optional(_id))
    """The user that it runs as; for root, and with namespaces alone."""
    calls: Refusal | None = None
    """What the seccomp filter does with system calls that the engine does not need."""
    cgroup: str | None = attrs.field(default=None, validator=attrs.validators.optional(absolute))
    """A directory of a cgroup v2 hierarchy, below which the machine has a group of its own with limits."""

    def __attrs_post_init__(self) -> None:
        """Another user would not reach the files of root, but for what namespaces show it."""
        if self.uid is not None and self.bwrap is None:
            raise ValueError("uid takes bwrap: another user reaches root's files through namespaces alone")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError, KeyError or TypeError for what is no jail."""
        fields = dict(data)
        calls = fields["calls"]
        return cls(**fields | {"calls": None if calls is None else Refusal(calls)})
