from __future__ import annotations

import io
import sys

import pytest

from boxlite.cli.progress import show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_every_stage_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages may overlap, and a name with rich's markup in it is shown as it is."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with show_progress() as stage, stage("preparing oci:[red]"), stage("booting"):
        pass
    assert "preparing oci:[red]" in terminal.getvalue()
    assert "booting" in terminal.getvalue()


def test_what_is_no_terminal_stays_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with show_progress() as stage, stage("booting"):
        pass
    assert log.getvalue() == ""
