"""`boxlite template`: what it prints, and the status that it ends with."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import trio

from boxlite.runtime.layout import Home
from boxlite.templates.files import TemplateFiles
from boxlite.templates.manifest import MANIFEST
from tests.cli.homes import call
from tests.templates.keys import make_recipe
from tests.templates.test_files import keep

ONE, TWO = (make_recipe(cpus=number) for number in (1, 2))
HOUR = 3600


@pytest.fixture
def filled(tmp_path: Path) -> str:
    """A home with two templates: the first was used an hour ago, the second two weeks ago."""
    templates = Home(tmp_path).templates

    async def fill() -> None:
        store = TemplateFiles(templates, limit_bytes=1 << 30)
        for recipe, hours in ((ONE, 1), (TWO, 14 * 24)):
            await keep(store, recipe, created_at=time.time() - 400 * HOUR)
            used = time.time() - hours * HOUR
            os.utime(templates / recipe.key.name() / MANIFEST, (used, used))

    trio.run(fill)
    return str(tmp_path)


def listed(home: str) -> list[str]:
    return [each["name"] for each in json.loads(call("template", "list", "--json", "--home", home).stdout)]


def test_people_get_a_table_with_the_last_used_first(filled: str) -> None:
    lines = call("template", "list", "--home", filled).stdout.splitlines()
    assert lines[0].split() == ["NAME", "IMAGE", "CPUS", "MEMORY", "DISK", "SIZE", "CREATED", "USED"]
    assert [line.split()[:7] for line in lines[1:]] == [
        [recipe.key.name()[:12], "builtin/python", str(recipe.key.cpus), "256", "MiB", "64", "MiB"]
        for recipe in (ONE, TWO)
    ]
    assert lines[1].endswith("1 hour ago")
    assert lines[2].endswith("14 days ago")


def test_programs_get_all_that_tells_templates_apart(filled: str) -> None:
    one, two = json.loads(call("template", "list", "--json", "--home", filled).stdout)
    assert (one["name"], one["image"], one["cpus"], one["memory_mib"]) == (ONE.key.name(), "builtin/python", 1, 256)
    assert (two["cpus"], two["disk_mib"], two["accelerator"]) == (2, 64, "tcg")
    assert one["size_bytes"] > 4 << 20
    assert one["created_at"] < one["used_at"]


def test_a_home_without_templates_has_an_empty_list(tmp_path: Path) -> None:
    assert call("template", "list", "--json", "--home", str(tmp_path)).stdout == "[]\n"
    assert len(call("template", "list", "--home", str(tmp_path)).stdout.splitlines()) == 1


def test_one_is_removed_by_the_digits_that_the_table_shows(filled: str) -> None:
    called = call("template", "remove", "--home", filled, ONE.key.name()[:12])
    assert (called.status, called.stdout) == (0, f"{ONE.key.name()}\n")
    assert listed(filled) == [TWO.key.name()]


def test_a_name_that_no_template_has_fails_and_the_others_are_removed(filled: str) -> None:
    called = call("template", "remove", "--home", filled, "nothing", TWO.key.name())
    assert (called.status, called.stdout) == (1, f"{TWO.key.name()}\n")
    assert "no template has a name that begins with 'nothing'" in called.stderr
    assert listed(filled) == [ONE.key.name()]


def test_what_was_not_used_for_a_week_is_pruned_unless_another_time_is_given(filled: str) -> None:
    assert call("template", "prune", "--home", filled, "--unused-for", "9999h").stdout == ""
    assert call("template", "prune", "--home", filled).stdout == f"{TWO.key.name()}\n"
    (removed,) = json.loads(call("template", "prune", "--home", filled, "--unused-for", "0", "--json").stdout)
    assert removed["name"] == ONE.key.name()
    assert listed(filled) == []


def test_an_image_that_is_none_is_an_error_in_json_too(tmp_path: Path) -> None:
    called = call("template", "build", "--json", "--home", str(tmp_path), "what is this")
    assert called.status == 125
    assert json.loads(called.stdout)["errors"][0]["type"] == "InvalidReference"


def test_a_template_is_built_once(home: Path) -> None:
    """A real one, of the kind that `boxlite run` uses."""
    made = json.loads(call("template", "build", "--json", "--home", str(home), "builtin/python").stdout)
    assert (made["image"], made["cpus"], made["memory_mib"], made["disk_mib"]) == ("builtin/python", 1, 256, 4096)
    again = call("template", "build", "--home", str(home), "builtin/python")
    assert (again.status, again.stdout) == (0, f"{made['name']}\n")
    assert made["name"] in listed(str(home))
