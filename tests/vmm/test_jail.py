"""Which jail a runtime's machines are in: what is asked for, what a host can give, and what is said of the rest."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import boxlite
from boxlite.errors import InvalidOptions, JailUnavailable
from boxlite.vmm import jail as jails
from boxlite.vmm.jail import JailMeasure, JailPolicy, JailPreset, build_jail, check_jail, choose_jail, find_policy
from boxlite.vmm.jail_facts import JailFacts, enable_controllers, gather_jail_facts, sweep_groups
from vmm_ffi.spec import FIRST_JAIL_UID, JAIL_UIDS, Refusal

ALL = frozenset(JailMeasure)
FACTS = JailFacts(
    bwrap="/usr/bin/bwrap",
    namespaces_problem=None,
    user_problem=None,
    seccomp_problem=None,
    cgroup="/sys/fs/cgroup",
    cgroup_problem=None,
)

policies = st.builds(
    JailPolicy, preset=st.sampled_from(JailPreset), without=st.frozensets(st.sampled_from(JailMeasure))
)
problems = st.none() | st.just("it is not there")
facts = st.builds(
    JailFacts,
    bwrap=st.just("/usr/bin/bwrap"),
    namespaces_problem=problems,
    user_problem=problems,
    seccomp_problem=problems,
    cgroup=st.just("/sys/fs/cgroup"),
    cgroup_problem=problems,
)


@given(policies)
def test_a_policy_is_read_back_from_its_text(policy: JailPolicy) -> None:
    assert JailPolicy.parse(str(policy)) == policy


@pytest.mark.parametrize("text", ["", "strict", "standard,cgroup", "standard,-", "maximum,-cgroups", "maximum -cgroup"])
def test_another_text_is_refused_with_all_that_there_is(text: str) -> None:
    with pytest.raises(InvalidOptions, match=r"development, standard, maximum.*-namespaces, -user, -seccomp, -cgroup"):
        JailPolicy.parse(text)


def test_the_policy_is_the_given_one_else_the_environment_s_else_the_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOXLITE_JAIL", raising=False)
    assert str(find_policy(None)) == "standard"
    monkeypatch.setenv("BOXLITE_JAIL", "maximum,-cgroup")
    assert str(find_policy(None)) == "maximum,-cgroup"
    assert str(find_policy("development")) == "development"


@given(policies, facts)
def test_what_is_asked_for_is_taken_or_missing_with_a_reason_and_nothing_else(
    policy: JailPolicy, found: JailFacts
) -> None:
    jail = choose_jail(policy, found)
    assert jail.taken | jail.missing.keys() == policy.measures
    assert not jail.taken & jail.missing.keys()
    assert all(jail.missing.values())
    for measure in jail.missing:
        assert f"no {measure}: " in str(jail)
    spec = jail.spec("box")
    assert (spec is None) == (not jail.taken)
    if spec is not None:
        assert (spec.bwrap is not None) == (JailMeasure.NAMESPACES in jail.taken)
        assert (spec.calls is not None) == (JailMeasure.SECCOMP in jail.taken)
        assert (spec.cgroup is not None) == (JailMeasure.CGROUP in jail.taken)


@given(policies, facts)
def test_the_maximum_is_all_that_was_asked_for_or_no_machine(policy: JailPolicy, found: JailFacts) -> None:
    jail = choose_jail(policy, found)
    if policy.preset is JailPreset.MAXIMUM and jail.missing:
        with pytest.raises(JailUnavailable, match=r"cannot be had on this host: .*do without it in so many words"):
            check_jail(jail)
    else:
        check_jail(jail)


def test_the_presets_differ_in_what_they_take_and_in_what_a_forbidden_call_meets() -> None:
    taken = {preset: choose_jail(JailPolicy(preset), FACTS) for preset in JailPreset}
    assert [jail.taken for jail in taken.values()] == [frozenset(), ALL, ALL]
    specs = [jail.spec("box") for jail in taken.values()]
    assert [spec and spec.calls for spec in specs] == [None, Refusal.ABSENT, Refusal.KILL]


def test_what_stands_on_namespaces_goes_with_them() -> None:
    jail = choose_jail(JailPolicy(JailPreset.MAXIMUM, frozenset({JailMeasure.NAMESPACES})), FACTS)
    assert jail.taken == {JailMeasure.SECCOMP}
    assert set(jail.missing) == {JailMeasure.USER, JailMeasure.CGROUP}


def test_each_box_of_root_s_is_a_user_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    jail = choose_jail(JailPolicy(JailPreset.STANDARD), FACTS)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    specs = [jail.spec(f"box-{number}") for number in range(50)]
    users = [spec.uid for spec in specs if spec is not None and spec.uid is not None]
    assert len(set(users)) == 50
    assert all(FIRST_JAIL_UID <= user < FIRST_JAIL_UID + JAIL_UIDS for user in users)
    assert jail.spec("box-0") == specs[0]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    spec = jail.spec("box")
    assert spec is not None
    assert spec.uid is None


async def test_a_host_without_bubblewrap_or_without_user_namespaces_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxlite.programs.SYSTEM_DIRECTORIES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (await gather_jail_facts()).namespaces_problem == "bubblewrap is not installed"
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\nprintf 'bwrap: No permissions \\033[31m' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o011)
    problem = (await gather_jail_facts()).namespaces_problem
    assert problem is not None
    assert problem.startswith("bubblewrap makes no namespaces here: bwrap: No permissions")
    assert "\033" not in problem


async def test_a_host_that_runs_these_tests_gives_all_but_a_group() -> None:
    found = await gather_jail_facts()
    assert (found.namespaces_problem, found.user_problem, found.seccomp_problem) == (None, None, None)
    assert (found.cgroup is None) == (found.cgroup_problem is not None)


def test_controllers_that_cannot_be_had_are_an_obstacle_and_no_error(tmp_path: Path) -> None:
    control = tmp_path / "cgroup.subtree_control"
    control.write_text("cpu io memory pids\n")
    assert enable_controllers(str(tmp_path)) is None
    assert control.read_text() == "cpu io memory pids\n"
    obstacle = enable_controllers(str(tmp_path / "nowhere"))
    assert obstacle is not None
    assert "No such file" in obstacle


def test_groups_that_were_left_behind_are_swept_but_for_young_ones_and_those_in_use(tmp_path: Path) -> None:
    for name in ("boxlite-old", "boxlite-young", "boxlite-used/task", "other"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("boxlite-old", "boxlite-used", "other"):
        os.utime(tmp_path / name, (0, 0))
    sweep_groups(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["boxlite-used", "boxlite-young", "other"]


async def test_a_group_whose_controllers_cannot_be_had_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def gather() -> JailFacts:
        return attrs.evolve(FACTS, cgroup=str(tmp_path / "nowhere"))

    monkeypatch.setattr(jails, "gather_jail_facts", gather)
    jail = await build_jail(JailPolicy(JailPreset.STANDARD))
    assert jail.taken == ALL - {JailMeasure.CGROUP}
    assert "cannot be had" in jail.missing[JailMeasure.CGROUP]
    assert (spec := jail.spec("box")) is not None
    assert spec.cgroup is None


@pytest.mark.parametrize(("lacks", "level"), [("namespaces", logging.WARNING), ("cgroup", logging.INFO)])
async def test_what_a_host_cannot_give_is_logged_once_a_runtime(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lacks: str, level: int
) -> None:
    async def gather() -> JailFacts:
        return attrs.evolve(FACTS, cgroup=None, **{f"{lacks}_problem": "it is not there"})

    monkeypatch.setattr(jails, "gather_jail_facts", gather)
    policy = "standard" if lacks == "cgroup" else "standard,-cgroup"
    with caplog.at_level(logging.INFO, logger="boxlite"):
        async with boxlite.open_runtime(home=home, ephemeral=True, jail=policy) as runtime:
            assert runtime.jail is not None
            assert JailMeasure(lacks) in runtime.jail.missing
    said = [record for record in caplog.records if "jail" in record.getMessage()]
    assert [(record.levelno, f"no {lacks}: it is not there" in record.getMessage()) for record in said] == [
        (level, True)
    ]


async def test_a_runtime_that_must_have_everything_does_not_open_without(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gather() -> JailFacts:
        return attrs.evolve(FACTS, seccomp_problem="it is not there")

    monkeypatch.setattr(jails, "gather_jail_facts", gather)
    with pytest.raises(JailUnavailable, match=r"seccomp: it is not there.*doctor --jail maximum.*maximum,-secc"):
        async with boxlite.open_runtime(home=home, ephemeral=True, jail="maximum"):
            pass


async def test_a_jail_that_does_not_exist_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptions, match="a jail is one of"):
        async with boxlite.open_runtime(home=tmp_path / "home", jail="prison"):
            pass
    assert os.listdir(tmp_path) == []
