"""Which installed packages the agent needs."""

import sys
from pathlib import Path

import pytest

from guest.build import packages
from guest.build.errors import BuildError
from guest.build.inputs import Inputs


def install(site: Path, name: str, requires: list[str], files: dict[str, str], *, record: bool = True) -> None:
    """A distribution as an installer leaves it."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0", *(f"Requires-Dist: {text}" for text in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    if record:
        listed = [*files, f"{info.name}/METADATA", f"{info.name}/RECORD", "../bin/script", "pkg/__pycache__/a.pyc"]
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in listed))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.setattr(sys, "path", [str(directory)])
    return directory


def agent_needs(monkeypatch: pytest.MonkeyPatch, *names: str) -> set[str]:
    """The paths of the agent's tree that come of these distributions."""
    monkeypatch.setattr(packages, "DISTRIBUTIONS", names)
    monkeypatch.setattr(packages, "_own", lambda inputs, package: {})
    return {path.removeprefix(f"{packages.PLACE}/") for path in packages.agent(Inputs())}


def test_requirements_follow_one_another(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Circles end; names differ in case and punctuation; scripts, compiled files and RECORD stay behind."""
    install(site, "top", ["Mid_dle (>=1.0)"], {"top.py": ""})
    install(site, "mid_dle", ["low>=1,<2"], {"mid/__init__.py": "", "mid/data.txt": ""})
    install(site, "low", ["top"], {"low.py": ""})
    install(site, "stranger", [], {"stranger.py": ""})
    assert agent_needs(monkeypatch, "top") == {
        *("top.py", "mid/__init__.py", "mid/data.txt", "low.py"),
        *(f"{name}-1.0.dist-info/METADATA" for name in ("top", "mid_dle", "low")),
    }


def test_conditions_are_met_by_what_is_installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extras never count, other conditions where the package is there."""
    install(
        site, "top", ["there; python_version >= '3'", "gone; os_name == 'nt'", "more; extra == 'x'"], {"top.py": ""}
    )
    install(site, "there", [], {"there.py": ""})
    install(site, "more", [], {"more.py": ""})
    assert {path for path in agent_needs(monkeypatch, "top") if path.endswith(".py")} == {"top.py", "there.py"}


def test_a_package_that_is_missing_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "top", ["absent>=3"], {"top.py": ""})
    with pytest.raises(BuildError, match="pip install absent"):
        agent_needs(monkeypatch, "top")


def test_a_package_without_a_list_of_files_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So distributions' package managers install; guessing the files could leave some out."""
    install(site, "top", [], {"top.py": ""}, record=False)
    with pytest.raises(BuildError, match="top"):
        agent_needs(monkeypatch, "top")
