"""What root in the container may do."""

from __future__ import annotations

import pytest

from guest.agent.container.capabilities import DEFAULT_CAPABILITIES
from tests.guest.agent.harness import Shared


def status(box: Shared, user: str) -> dict[str, str]:
    text = box.shell("cat /proc/self/status", user=user).stdout.decode()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_root_has_dockers_default_set_and_no_more() -> None:
    assert f"{DEFAULT_CAPABILITIES:016x}" == "00000000a80425fb"


def test_roots_capabilities_are_that_set(box: Shared) -> None:
    found = status(box, "")
    assert {found[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"00000000a80425fb"}
    assert {found[name] for name in ("CapInh", "CapAmb")} == {"0000000000000000"}
    assert found["NoNewPrivs"] == "1"


def test_other_users_have_none(box: Shared) -> None:
    found = status(box, "alice")
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0000000000000000"}
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["1000"] * 4
    assert found["Groups"].split() == ["10", "1000"]


def test_a_set_user_id_program_gives_nobody_any_rights(box: Shared) -> None:
    box.shell("cp /bin/busybox /root/../tmp/id; chmod 4755 /tmp/id")
    assert box.shell("/tmp/id -u", user="alice").stdout == b"1000\n"


@pytest.mark.parametrize("path", ["/proc/1/mem", "/proc/1/environ", "/proc/1/fd/", "/proc/1/root/"])
def test_nobody_looks_into_the_containers_init(box: Shared, path: str) -> None:
    """Not even root in the container: process 1 has the socket to the agent."""
    assert box.shell(f"ls {path}* >/dev/null && head -c 1 {path}").exited.exit_code != 0
    assert b"ermission" in box.shell(f"ls -l {path} && cat {path}").stderr


def test_signals_from_inside_do_not_reach_init(box: Shared) -> None:
    box.shell("for s in 1 2 3 9 10 15 17; do kill -$s 1; done")
    assert box.shell("echo alive").stdout == b"alive\n"
