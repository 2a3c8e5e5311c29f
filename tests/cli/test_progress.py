from __future__ import annotations

import io
import sys

import attrs
import pytest

from boxlite.cli.progress import show_progress
from boxlite.images.digest import Digest
from boxlite.images.registry.progress import LayerProgress, LayerState


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


def test_a_terminal_shows_a_bar_for_each_layer_and_nobody_else_sees_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    layer = LayerProgress(Digest("sha256", "0123456789ab" + "0" * 52), 2_000_000, 0, LayerState.WAITING)
    for terminal, quiet, shown in ((Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)):
        monkeypatch.setattr(sys, "stderr", terminal)
        with show_progress(quiet=quiet) as stage, stage("pulling alpine"):
            stage.show_layer(layer)
            stage.show_layer(attrs.evolve(layer, received=1_000_000, state=LayerState.DOWNLOADING))
            stage.show_layer(attrs.evolve(layer, state=LayerState.RETRYING, reason="[red]cut"))
        text = terminal.getvalue()
        assert ("0123456789ab" in text, "[red]cut" in text, "2.0 MB" in text) == (shown, shown, shown)
