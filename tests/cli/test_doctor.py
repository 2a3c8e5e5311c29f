from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import boxlite.cli.doctor
from boxlite.cli.commands import cli
from boxlite.vmm.doctor import Check
from boxlite.vmm.jail import JailPolicy

FINE = Check("qemu", True, "/usr/bin/qemu 7.2")
MISSING = Check("kernel", False, "no [bold]libkrunfw[/] found", "install " + "a very long name " * 20)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the examination, which has tests of its own, finds; the test may change it."""
    checks = [FINE]

    async def examine(home: Path, *, policy: JailPolicy) -> list[Check]:
        return checks

    monkeypatch.setattr(boxlite.cli.doctor, "examine", examine)
    return checks


def doctor(*options: str) -> tuple[object, str]:
    result = CliRunner().invoke(cli, ["doctor", *options], standalone_mode=False)
    return result.return_value, result.output


def test_a_host_where_all_is_well_has_ticks_and_status_0(found: list[Check]) -> None:
    status, output = doctor()
    assert status == 0
    assert "✓  qemu  /usr/bin/qemu 7.2" in output
    assert "virtual machines can run here" in output


def test_what_is_missing_comes_with_a_remedy_and_status_1(found: list[Check]) -> None:
    """One line each, so that a script can search them, and text is text, whatever it looks like."""
    found.append(MISSING)
    status, output = doctor()
    assert status == 1
    assert "✗  kernel  no [bold]libkrunfw[/] found" in output
    assert f"to do: {MISSING.remedy.strip()}" in output


def test_programs_get_one_json_object(found: list[Check]) -> None:
    found.append(MISSING)
    status, output = doctor("--json")
    expected = [{"name": check.name, "ok": check.ok, "detail": check.detail, "remedy": check.remedy} for check in found]
    assert (1, {"ok": False, "checks": expected}) == (status, json.loads(output))


def test_this_host_is_examined_for_real(tmp_path: Path) -> None:
    """Tests run real machines, so that a host that runs them is one where they can run."""
    status, output = doctor("--json", "--home", str(tmp_path))
    document = json.loads(output)
    assert (status, document["ok"]) == (0, True)
    assert {"name": "home", "ok": True, "detail": str(tmp_path), "remedy": ""} in document["checks"]
