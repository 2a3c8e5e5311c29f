"""What a shell is told: scripts, and the words that may come next."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from boxlite import BoxState
from boxlite.cli.commands import cli
from tests.cli.homes import box, call, fill


def complete(*words: str) -> list[str]:
    """What may stand in place of the last word."""
    shell = ShellComplete(cli, {}, "boxlite", "_BOXLITE_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    script = call("completion", shell).stdout
    assert f"_BOXLITE_COMPLETE={shell}_complete" in script


def test_another_shell_is_refused_with_those_that_are_known() -> None:
    error = call("completion", "tcsh").error
    assert "'bash', 'zsh', 'fish'" in str(error)


def test_commands_and_options_are_completed() -> None:
    assert complete("st") == ["start", "stats", "stop"]
    assert complete("create", "--health-s") == ["--health-start-period"]


@pytest.mark.parametrize("command", ["start", "stop", "rm", "exec", "attach", "logs", "inspect", "stats"])
def test_names_come_from_the_store(command: str, tmp_path: Path) -> None:
    fill(tmp_path, box("web", BoxState.STOPPED), box("worker", BoxState.STOPPED), box("db", BoxState.STOPPED))
    assert complete(command, "--home", str(tmp_path), "w") == ["web", "worker"]


def test_a_name_is_offered_once(tmp_path: Path) -> None:
    fill(tmp_path, box("web", BoxState.STOPPED), box("worker", BoxState.STOPPED))
    assert complete("rm", "--home", str(tmp_path), "web", "w") == ["worker"]


def test_a_home_that_cannot_be_read_completes_nothing_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "boxlite.db").write_bytes(b"garbage" * 1000)
    assert complete("rm", "--home", str(tmp_path), "") == []
    assert complete("rm", "--home", str(tmp_path / "none"), "") == []
    assert capfd.readouterr() == ("", "")
