"""An outcome is a value that says how a command ended."""

from __future__ import annotations

import pytest

from boxlite.boxes.outcome import Cancelled, Exited, Outcome, Signalled, TimedOut, VmDied, exit_status


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(Exited(0), 0), (Exited(3), 3), (Signalled(15), 143), (TimedOut(), 124), (Cancelled(), 137), (VmDied("x"), 125)],
)
def test_the_status_is_what_a_shell_would_report(outcome: Outcome, status: int) -> None:
    assert exit_status(outcome) == status


def test_outcomes_are_equal_by_what_happened_and_not_by_what_is_said_of_it() -> None:
    assert Exited(127, "nope: command not found") == Exited(127)
    assert VmDied("killed", "console") == VmDied("killed")
    exited: Outcome = Exited(1)
    assert exited != Signalled(1)


def test_signals_are_named() -> None:
    assert str(Signalled(9)) == "was ended by SIGKILL"
    assert str(Signalled(40)) == "was ended by signal 40"


def test_an_exit_code_comes_with_what_is_known_of_it() -> None:
    assert str(Exited(3)) == "exited with code 3"
    assert str(Exited(127, "nope: command not found")) == "exited with code 127: nope: command not found"
