"""What a box is created with."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from boxlite.boxes.policy import HealthCheck, RestartPolicy
from boxlite.boxes.text import check_user, encode_variables
from boxlite.boxes.volumes import Volume, check_volumes
from boxlite.errors import InvalidCommand, InvalidOptions
from boxlite.images.reference import Reference

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")

MIN_MEMORY_MIB = 128
MIN_DISK_MIB = 16


def _frozen(env: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(env))


def _policy(policy: RestartPolicy | str) -> RestartPolicy:
    return RestartPolicy.parse(policy) if isinstance(policy, str) else policy


def _tuple(volumes: Iterable[Volume]) -> tuple[Volume, ...]:
    try:
        return tuple(volumes)
    except TypeError:
        raise InvalidOptions(f"volumes are a list of boxlite.Volume, not {volumes!r}") from None


def _made_up_name() -> str:
    return f"box-{secrets.token_hex(4)}"


@attrs.frozen
class BoxOptions:
    """Checked when made: `InvalidOptions` says what is wrong.

    `memory_mib` and `disk_mib` are in MiB; the disk takes what the box writes and uses space on the host only as it
    is written. `env` is added to the image's environment. `boot_timeout` is in seconds; None waits as long as the
    caller does. `detached` lets its machine run on when its runtime ends, until a later one stops it.
    `volumes` are directories and files of this host that the box sees.
    """

    image: Reference
    name: str = attrs.field(factory=_made_up_name)
    cpus: int = 1
    memory_mib: int = 256
    disk_mib: int = 4096
    env: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen)
    user: str | None = None
    boot_timeout: float | None = attrs.field(default=None, converter=attrs.converters.optional(float))
    restart: RestartPolicy = attrs.field(factory=RestartPolicy, converter=_policy)
    health: HealthCheck | None = None
    detached: bool = False
    volumes: tuple[Volume, ...] = attrs.field(default=(), converter=_tuple)

    def __attrs_post_init__(self) -> None:
        for count in ("cpus", "memory_mib", "disk_mib"):
            number = getattr(self, count)
            _require(type(number) is int, f"{count} must be a whole number, not {number!r}")
        _require(
            isinstance(self.name, str) and _NAME.fullmatch(self.name) is not None,
            f"a box's name has 1 to 63 of [a-zA-Z0-9_.-] and starts with a letter or digit; {self.name!r} does not",
        )
        _require(1 <= self.cpus <= 64, f"cpus must be 1 to 64, not {self.cpus}")
        _require(
            MIN_MEMORY_MIB <= self.memory_mib <= 1 << 20,
            f"memory_mib must be at least {MIN_MEMORY_MIB} and at most {1 << 20}, not {self.memory_mib}",
        )
        _require(
            MIN_DISK_MIB <= self.disk_mib <= 16 << 20,
            f"disk_mib must be at least {MIN_DISK_MIB} and at most {16 << 20}, not {self.disk_mib}",
        )
        _require(
            self.boot_timeout is None or self.boot_timeout > 0,
            f"boot_timeout must be a positive number of seconds, not {self.boot_timeout}",
        )
        # What is stored is read again by the next runtime, whose reader is strict.
        _require(isinstance(self.restart, RestartPolicy), f"{self.restart!r} is no restart policy")
        _require(self.health is None or isinstance(self.health, HealthCheck), f"{self.health!r} is no health check")
        _require(isinstance(self.detached, bool), f"detached is True or False, not {self.detached!r}")
        check_volumes(self.volumes)
        _require(self.user is None or isinstance(self.user, str), f"user must be a text, not {self.user!r}")
        for variable in (*self.env, *self.env.values()):
            _require(isinstance(variable, str), f"names and values in env must be texts, not {variable!r}")
        try:
            encode_variables(self.env)
            check_user(self.user or "")
        except InvalidCommand as error:
            raise InvalidOptions(str(error)) from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidOptions(message)
