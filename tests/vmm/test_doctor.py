from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxlite.vmm.doctor import Check, examine
from boxlite.vmm.jail import JailPolicy

JAIL = ["jail: namespaces", "jail: user", "jail: seccomp", "jail: cgroup"]
NAMES = [
    *("python", "platform", "qemu", "kernel", "kvm", "krun", "volumes", "e2fsprogs", "busybox", "memory", "home"),
    *JAIL,
    "engine",
]


async def examined(home: Path, policy: str = "standard") -> dict[str, Check]:
    checks = await examine(home, policy=JailPolicy.parse(policy))
    assert [check.name for check in checks] == NAMES
    assert [check for check in checks if not check.ok and not check.remedy] == []
    return {check.name: check for check in checks}


async def test_a_host_that_runs_these_tests_is_healthy_and_stays_as_it_was(tmp_path: Path) -> None:
    checks = await examined(tmp_path / "not" / "yet" / "there")
    assert [check for check in checks.values() if not check.ok] == []
    assert os.listdir(tmp_path) == []


async def test_without_programs_the_remedy_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("boxlite.programs.SYSTEM_DIRECTORIES", ())
    checks = await examined(tmp_path)
    for name, package in (("qemu", "qemu-system-x86"), ("e2fsprogs", "e2fsprogs"), ("busybox", "busybox-static")):
        assert not checks[name].ok
        assert package in checks[name].remedy
    assert not checks["engine"].ok
    assert "qemu-system-x86" in checks["engine"].remedy


async def test_a_home_below_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checks = await examined(tmp_path / "file" / "home")
    assert not checks["home"].ok
    assert str(tmp_path / "file") in checks["home"].remedy


async def test_too_little_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxlite.vmm.doctor.MEMORY_MIB", 1 << 40)
    assert not (await examined(tmp_path))["memory"].ok


async def test_what_a_jail_cannot_have_is_told_with_a_remedy_and_fails_where_it_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("boxlite.programs.SYSTEM_DIRECTORIES", ())
    for policy, ok in (("standard", True), ("maximum", False)):
        check = (await examined(tmp_path, policy))["jail: namespaces"]
        assert (check.ok, check.detail) == (ok, "not to be had: bubblewrap is not installed")
        assert "apt-get install bubblewrap" in check.remedy
    left_out = (await examined(tmp_path, "maximum,-namespaces"))["jail: namespaces"]
    assert left_out == Check("jail: namespaces", True, "left out by maximum,-namespaces")
