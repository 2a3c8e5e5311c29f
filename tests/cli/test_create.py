"""What `boxlite create` makes of its options."""

from __future__ import annotations

from typing import Any

import pytest

import boxlite.cli.create
from boxlite import HealthCheck, RestartKind, RestartPolicy
from boxlite.cli.request import BoxRequest
from tests.cli.homes import call


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[BoxRequest]:
    """What was asked for; nothing is made."""
    made: list[BoxRequest] = []

    async def create(request: BoxRequest) -> str:
        made.append(request)
        return request.name or "made-up"

    monkeypatch.setattr(boxlite.cli.create, "_create", create)
    return made


def test_a_box_outlives_the_command_that_makes_it(requests: list[BoxRequest]) -> None:
    assert call("create", "builtin/python").stdout == "made-up\n"
    assert requests[0].box_options() == {"env": {}, "boot_timeout": 120.0, "detached": True}


def test_options_are_dockers(requests: list[BoxRequest]) -> None:
    options: Any = (
        *("--name", "web", "--cpus", "2", "-m", "1g", "--disk", "8g", "-e", "A=b", "-u", "1:2"),
        *("--restart", "on-failure:3", "--health-cmd", "test -e /ready", "--health-interval", "1m30s"),
        *("--health-timeout", "5", "--health-retries", "2", "--health-start-period", "0s"),
    )
    assert call("create", *options, "--json", "builtin/python").stdout == '{"name": "web"}\n'
    assert requests[0].box_options() == {
        "name": "web",
        "cpus": 2,
        "memory_mib": 1024,
        "disk_mib": 8192,
        "env": {"A": "b"},
        "user": "1:2",
        "boot_timeout": 120.0,
        "restart": RestartPolicy(RestartKind.ON_FAILURE, 3),
        "health": HealthCheck(
            ("/bin/sh", "-c", "test -e /ready"), interval=90.0, timeout=5.0, retries=2, start_period=0.0
        ),
        "detached": True,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--restart", "sometimes"], "a restart policy is"),
        (["--health-interval", "3"], "without --health-cmd"),
        (["--health-cmd", "true", "--health-retries", "0"], "retries of a health check"),
        (["--health-cmd", "true", "--health-interval", "0"], "is no time in seconds"),
        (["--memory", "lots"], "is no size"),
    ],
)
def test_bad_options_are_refused_before_anything_is_made(
    options: list[str], message: str, requests: list[BoxRequest]
) -> None:
    ended = call("create", *options, "builtin/python")
    assert message in ended.stderr + str(ended.error)
    assert requests == []
