"""The jail of the machines' processes: what a preset asks for, what this host can give, and what is missing then."""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Mapping
from typing import Final, Self

import attrs

from boxlite.errors import InvalidOptions, JailUnavailable
from boxlite.vmm.jail_facts import JailFacts, enable_controllers, gather_jail_facts, sweep_groups
from vmm_ffi.spec import FIRST_JAIL_UID, JAIL_UIDS, JailSpec, Refusal

DEFAULT: Final = "standard"


class JailPreset(enum.StrEnum):
    """How much confines the process of a machine, beyond what always does."""

    DEVELOPMENT = "development"
    """Nothing, so that debuggers reach it, and it reaches the host's files."""
    STANDARD = "standard"
    """Every measure that the host can give; what it cannot is reported."""
    MAXIMUM = "maximum"
    """Every measure, or no machine; a system call that the engine does not need ends the machine."""


class JailMeasure(enum.StrEnum):
    """What a jail is made of; docs/security.md tells what each one does."""

    NAMESPACES = "namespaces"
    USER = "user"
    SECCOMP = "seccomp"
    CGROUP = "cgroup"


@attrs.frozen
class JailPolicy:
    """A preset, and the measures that it shall do without.

    As text: "standard", or "maximum,-cgroup" for all measures but one.
    """

    preset: JailPreset
    without: frozenset[JailMeasure] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `InvalidOptions`."""
        preset, *rest = text.split(",")
        try:
            if any(not measure.startswith("-") for measure in rest):
                raise ValueError
            return cls(JailPreset(preset), frozenset(JailMeasure(measure[1:]) for measure in rest))
        except ValueError:
            presets, measures = ", ".join(JailPreset), ", ".join(f"-{measure}" for measure in JailMeasure)
            raise InvalidOptions(
                f"a jail is one of {presets}, and after it, with commas, any of {measures}; not {text!r}"
            ) from None

    def __str__(self) -> str:
        return ",".join((self.preset, *(f"-{measure}" for measure in JailMeasure if measure in self.without)))

    @property
    def measures(self) -> frozenset[JailMeasure]:
        """What it asks for."""
        return frozenset() if self.preset is JailPreset.DEVELOPMENT else frozenset(JailMeasure) - self.without


def find_policy(text: str | None) -> JailPolicy:
    """The given one, else that of $BOXLITE_JAIL, else "standard"; raises `InvalidOptions`."""
    return JailPolicy.parse(text or os.environ.get("BOXLITE_JAIL") or DEFAULT)


@attrs.frozen
class Jail:
    """What confines every machine of a runtime."""

    policy: JailPolicy
    taken: frozenset[JailMeasure]
    missing: Mapping[JailMeasure, str]
    """What was asked for and cannot be had on this host, each with the reason."""
    bwrap: str | None = None
    cgroup: str | None = None

    def spec(self, box_id: str) -> JailSpec | None:
        """That of one box's machine."""
        if not self.taken:
            return None
        kill = self.policy.preset is JailPreset.MAXIMUM
        return JailSpec(
            bwrap=self.bwrap if JailMeasure.NAMESPACES in self.taken else None,
            uid=_user_of(box_id) if JailMeasure.USER in self.taken and os.geteuid() == 0 else None,
            calls=(Refusal.KILL if kill else Refusal.ABSENT) if JailMeasure.SECCOMP in self.taken else None,
            cgroup=self.cgroup if JailMeasure.CGROUP in self.taken else None,
        )

    def __str__(self) -> str:
        """In one line, for people."""
        taken = ", ".join(measure for measure in JailMeasure if measure in self.taken) or "nothing"
        missing = "; ".join(f"no {measure}: {reason}" for measure, reason in self.missing.items())
        return f"{self.policy}: {taken}" + (f"; {missing}" if missing else "")


async def build_jail(policy: JailPolicy) -> Jail:
    """The jail of this policy on this host, which must not be without anything for `MAXIMUM`: else `JailUnavailable`.

    Starts bubblewrap once, to see whether it works, which takes some ten milliseconds.
    """
    if not policy.measures:
        return Jail(policy, frozenset(), {})
    jail = choose_jail(policy, await gather_jail_facts())
    if jail.cgroup is not None:
        obstacle = enable_controllers(jail.cgroup)
        sweep_groups(jail.cgroup)
        if obstacle is not None:
            missing = {**jail.missing, JailMeasure.CGROUP: obstacle}
            jail = attrs.evolve(jail, taken=jail.taken - {JailMeasure.CGROUP}, missing=missing, cgroup=None)
    check_jail(jail)
    return jail


def choose_jail(policy: JailPolicy, facts: JailFacts) -> Jail:
    """What the policy comes to on a host with these facts."""
    obstacles = {
        JailMeasure.NAMESPACES: facts.namespaces_problem,
        JailMeasure.USER: facts.user_problem or facts.namespaces_problem,
        JailMeasure.SECCOMP: facts.seccomp_problem,
        JailMeasure.CGROUP: facts.cgroup_problem or facts.namespaces_problem,
    }
    # A user of its own reaches the machine's files by namespaces, and a group is joined at their gate.
    if JailMeasure.NAMESPACES in policy.without:
        reason = "it takes the measure namespaces, which was left out"
        obstacles |= dict.fromkeys((JailMeasure.USER, JailMeasure.CGROUP), reason)
    asked = [measure for measure in JailMeasure if measure in policy.measures]
    missing = {measure: why for measure in asked if (why := obstacles[measure]) is not None}
    taken = frozenset(asked) - missing.keys()
    return Jail(
        policy,
        taken,
        missing,
        bwrap=facts.bwrap if JailMeasure.NAMESPACES in taken else None,
        cgroup=facts.cgroup if JailMeasure.CGROUP in taken else None,
    )


def check_jail(jail: Jail) -> None:
    """Raises `JailUnavailable` where a jail of the preset `MAXIMUM` is without something."""
    if jail.policy.preset is JailPreset.MAXIMUM and jail.missing:
        reasons = "; ".join(f"{measure}: {reason}" for measure, reason in jail.missing.items())
        without = ",".join(f"-{measure}" for measure in jail.missing)
        raise JailUnavailable(
            f"the jail 'maximum' cannot be had on this host: {reasons}: see `boxlite doctor --jail maximum`, "
            f"or do without it in so many words: 'maximum,{without}'"
        )


def _user_of(box_id: str) -> int:
    """A user of the box's own: two boxes have the same one once in tens of millions."""
    digest = hashlib.sha256(box_id.encode()).digest()
    return FIRST_JAIL_UID + int.from_bytes(digest[:8], "big") % JAIL_UIDS
