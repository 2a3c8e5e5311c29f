from __future__ import annotations

import pytest

from boxlite import BoxOptions, InvalidCommand
from boxlite.boxes.volumes import Volume
from boxlite.cli.request import BoxRequest, RunRequest
from boxlite.images.config import ImageConfig
from boxlite.images.reference import parse_reference

CONFIG = ImageConfig(entrypoint=("/entry",), cmd=("default", "argument"))


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        (None, (), ("/entry", "default", "argument")),
        (None, ("own",), ("/entry", "own")),
        ("mine", (), ("mine",)),
        ("mine", ("own",), ("mine", "own")),
        ("", ("own",), ("own",)),
    ],
)
def test_entrypoint_and_command_combine_as_in_docker_run(
    entrypoint: str | None, command: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    request = RunRequest(image="builtin/python", entrypoint=entrypoint, command=command)
    assert expected == request.argv(CONFIG)


@pytest.mark.parametrize(("entrypoint", "config"), [(None, ImageConfig()), ("", CONFIG)])
def test_nothing_to_run_is_an_error(entrypoint: str | None, config: ImageConfig) -> None:
    with pytest.raises(InvalidCommand, match="say what to run"):
        RunRequest(image="builtin/python", entrypoint=entrypoint).argv(config)


def test_options_that_are_not_given_keep_the_defaults_of_boxes() -> None:
    given = RunRequest(image="builtin/python", name="box").box_options()
    image = parse_reference("builtin/python")
    assert BoxOptions(image, name="box") == BoxOptions(image, **given)


def test_options_that_are_given_reach_the_box() -> None:
    request = RunRequest(
        image="builtin/python",
        name="n",
        cpus=2,
        memory_mib=512,
        disk_mib=64,
        user="u",
        env={"A": "b"},
        boot_timeout=9.0,
    )
    expected = {
        "name": "n",
        "cpus": 2,
        "memory_mib": 512,
        "disk_mib": 64,
        "user": "u",
        "env": {"A": "b"},
        "boot_timeout": 9.0,
    }
    assert expected == request.box_options()


def test_without_volumes_nothing_is_said_of_them() -> None:
    """As of any other option that is not given: `get_or_create` would else compare them."""
    volume = Volume("/srv/data", "/data")
    assert "volumes" not in BoxRequest(image="builtin/python", volumes=()).box_options()
    assert BoxRequest(image="builtin/python", volumes=(volume,)).box_options()["volumes"] == (volume,)
