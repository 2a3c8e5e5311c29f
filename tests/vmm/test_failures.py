"""Engines that failed are remembered until the host boots again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxlite.vmm import failures
from boxlite.vmm.failures import note_failure, read_failures


def test_a_failure_is_known_to_the_next_runtime_until_the_host_boots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "failed"
    assert read_failures(path) == {}
    note_failure(path, "krun/kvm 1", "it died")
    note_failure(path, "qemu/kvm 7", "x" * 10_000)
    assert read_failures(path) == {"krun/kvm 1": "it died", "qemu/kvm 7": "x" * 500}
    assert [file.name for file in tmp_path.iterdir()] == ["failed"]
    monkeypatch.setattr(failures, "read_boot_id", lambda: "another boot")
    assert read_failures(path) == {}
    note_failure(path, "krun/kvm 1", "again")
    assert read_failures(path) == {"krun/kvm 1": "again"}


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{", "[" * 100_000, "null", '{"boot_id": 1}', '{"failures": {}}'),
        '{"boot_id": "B", "failures": 3}',
        '{"boot_id": "B", "failures": {"krun": 3}}',
        '{"boot_id": "B", "failures": ["krun"]}',
    ],
    ids=repr,
)
def test_a_damaged_file_says_nothing(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "read_boot_id", lambda: "B")
    (tmp_path / "failed").write_text(content)
    assert read_failures(tmp_path / "failed") == {}


def test_what_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "failed").mkdir()
    with pytest.raises(OSError, match="failed"):
        note_failure(tmp_path / "failed", "krun", "it died")
    assert [file.name for file in tmp_path.iterdir()] == ["failed"]
    assert read_failures(tmp_path / "failed") == {}


def test_what_is_written_is_json(tmp_path: Path) -> None:
    note_failure(tmp_path / "failed", "krun", "it \x1b[31mdied")
    assert json.loads((tmp_path / "failed").read_bytes())["failures"] == {"krun": "it \x1b[31mdied"}
