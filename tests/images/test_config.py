from __future__ import annotations

from typing import Any

import pytest

from boxlite.errors import ImageDamaged, InvalidCommand
from boxlite.images.config import ImageConfig, argv_for_run, environment_for


def test_an_empty_configuration_has_the_defaults_of_docker() -> None:
    for document in ({}, {"config": None}, {"config": {"Env": None, "Cmd": None, "WorkingDir": ""}}):
        assert ImageConfig.from_json(document) == ImageConfig(working_dir="/")


def test_every_field_is_read() -> None:
    document = {
        "config": {
            "Entrypoint": ["/entry"],
            "Cmd": ["a", "b"],
            "Env": ["PATH=/bin", "EMPTY=", "E=a=b"],
            "User": "app:1000",
            "WorkingDir": "/srv",
            "StopSignal": "SIGQUIT",
            "Labels": {"a": "b"},
        }
    }
    assert ImageConfig.from_json(document) == ImageConfig(
        ("/entry",), ("a", "b"), ("PATH=/bin", "EMPTY=", "E=a=b"), "app:1000", "/srv", "SIGQUIT", {"a": "b"}
    )


def test_a_relative_working_directory_starts_at_the_root() -> None:
    assert ImageConfig.from_json({"config": {"WorkingDir": "srv/app"}}).working_dir == "/srv/app"


def test_an_environment_entry_without_a_name_or_value_is_dropped() -> None:
    assert ImageConfig.from_json({"config": {"Env": ["LONELY", "=x", "", "A=1"]}}).env == ("A=1",)


@pytest.mark.parametrize(
    "config",
    [
        [],
        "text",
        {"Cmd": "sh"},
        {"Cmd": [1]},
        {"Cmd": [None]},
        {"Env": {"A": "b"}},
        {"Env": ["A=\0"]},
        {"Env": ["A=\ud800"]},
        {"User": 0},
        {"User": "a\0b"},
        {"WorkingDir": ["/"]},
        {"Labels": ["a"]},
        {"Labels": {"a": 1}},
        {"Labels": {"\udfff": "a"}},
    ],
)
def test_what_breaks_the_specification_is_refused(config: Any) -> None:
    with pytest.raises(ImageDamaged, match="configuration"):
        ImageConfig.from_json({"config": config})


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "command", "argv"),
    [
        ((), ("sh",), (), ("sh",)),
        ((), ("sh",), ("ls", "-l"), ("ls", "-l")),
        (("tini", "--"), ("sh",), (), ("tini", "--", "sh")),
        (("tini", "--"), ("sh",), ("ls",), ("tini", "--", "ls")),
        (("serve",), (), (), ("serve",)),
    ],
)
def test_run_executes_what_docker_run_would(
    entrypoint: tuple[str, ...], cmd: tuple[str, ...], command: tuple[str, ...], argv: tuple[str, ...]
) -> None:
    assert argv_for_run(ImageConfig(entrypoint=entrypoint, cmd=cmd), command) == argv


def test_an_image_without_a_command_needs_one() -> None:
    with pytest.raises(InvalidCommand, match="say what to run"):
        argv_for_run(ImageConfig())


def test_the_callers_environment_lies_over_the_images() -> None:
    config = ImageConfig(env=("A=1", "B=2", "A=3"))
    assert environment_for(config, {"B": "9", "C": ""}) == {"A": "3", "B": "9", "C": ""}
