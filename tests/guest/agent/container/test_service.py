"""Process 1 of the container."""

from __future__ import annotations

import time

from tests.guest.agent.harness import Shared


def test_orphans_are_reaped(box: Shared) -> None:
    """Whatever ends in the container leaves no zombie, daemons and their children too."""
    box.shell("for i in 1 2 3 4 5; do (setsid sh -c 'sleep 0.05' &) ; done; (true &); sleep 0.2")
    assert b" Z " not in box.shell("ps -o pid,stat,args").stdout
    assert box.shell("grep -l zombie /proc/[0-9]*/status").stdout == b""


def test_init_keeps_nothing_of_commands_that_have_ended(box: Shared) -> None:
    def children() -> int:
        return len(box.shell("ps -o pid,ppid | awk '$2 == 1'").stdout.splitlines())

    before = children()
    for _ in range(5):
        box.shell("sleep 0 & true")
    # A command is over when its streams are, which its last process closes before it ends.
    deadline = time.monotonic() + 20
    while children() > before:
        assert time.monotonic() < deadline


def test_a_group_whose_last_process_is_reaped_by_a_stranger_ends(box: Shared) -> None:
    """Nobody tells init of this end, so it looks by itself, once a second."""
    # A leaves the group and stays the parent of B, which stays in it; B's end is reaped by A.
    script = "sh -c 'sleep 0.3 & exec setsid sh -c \"sleep 61; wait\"' & sleep 0.1"
    run = box.shell(script)
    assert run.exited.exit_code == 0
    box.shell("pkill -f 'sleep 61'")
