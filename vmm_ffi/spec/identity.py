"""Which process a number means: a pid is used again after its process has ended."""

from __future__ import annotations

from typing import Any, Self

import attrs

_START_TIME = 19
"""Where /proc/PID/stat has the start time, counted from 0 after the program's name (proc(5): field 22)."""


def _positive(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{attribute.name} must be a positive number, not {value!r}")


@attrs.frozen
class ProcessIdentity:
    """A process, told apart from every later one of the same number.

    `start_time` is in clock ticks since the host's boot (proc(5), field 22 of /proc/PID/stat), and `boot_id` names that
    boot (/proc/sys/kernel/random/boot_id). Raises ValueError where a field could be of no process.
    """

    pid: int = attrs.field(validator=_positive)
    start_time: int = attrs.field(validator=_positive)
    boot_id: str = attrs.field(validator=attrs.validators.instance_of(str))

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises ValueError or TypeError for what is no identity."""
        if not isinstance(data, dict):
            raise ValueError(f"not an object: {data!r}")
        return cls(**data)


def read_boot_id() -> str:
    """The name of the host's present boot (random(4))."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def identity_of(pid: int, *, unreaped: bool = False) -> ProcessIdentity | None:
    """The process that has this number now; None where there is none.

    One that has ended and waits to be reaped counts with `unreaped` alone.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name is in parentheses, and may itself hold parentheses and spaces.
    state, *rest = stat.rpartition(b")")[2].split()
    if state in (b"Z", b"X") and not unreaped:
        return None
    return ProcessIdentity(pid, int(rest[_START_TIME - 1]), read_boot_id())
