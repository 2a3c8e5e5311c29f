"""Images on the command line: what is shown of a store, and what each command does to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import boxlite
from boxlite import BoxState
from boxlite.cli.prepare import bring_in
from boxlite.cli.progress import show_progress
from boxlite.cli.stored import open_store
from tests.cli.homes import box, call, fill
from tests.cli.test_completion import complete
from tests.images.archives import archive, file
from tests.images.exchange.archives import docker_members, write
from tests.images.layouts import write_layout
from tests.images.registry.real import Daemon, open_registry, push
from tests.images.store.stores import add_image

NONE = "there is no image none here: `boxlite images` shows those that there are"
ONE, TWO = archive(file(b"1", b"one")), archive(file(b"2", b"two"))
ALPINE, MINE = "docker.io/library/alpine:latest", "example.com/mine:1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOXLITE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def ids(home: Path) -> dict[str, str]:
    """Two images, of which a box is made from the second."""
    store = open_store(str(home))
    ids = {"alpine": add_image(store, [ONE], ALPINE), "mine": add_image(store, [ONE, TWO], MINE, pulled=False)}
    fill(home, box("web", BoxState.STOPPED, image=ids["mine"]))
    return {name: str(digest) for name, digest in ids.items()}


def test_images_are_shown_as_people_call_them(ids: dict[str, str]) -> None:
    lines = [line.split() for line in call("images").stdout.splitlines()]
    assert lines[0] == ["NAME", "ID", "SIZE", "DISK", "USED", "USED", "BY"]
    assert [line[:2] for line in lines[1:]] == [["alpine:latest", ids["alpine"][7:19]], [MINE, ids["mine"][7:19]]]
    assert lines[2][-1] == "web"
    assert call("images", "-q").stdout.split() == [ids["alpine"][7:19], ids["mine"][7:19]]
    assert call("image", "ls", "-q", "--no-trunc").stdout.split() == list(ids.values())


def test_programs_get_all_that_is_known(ids: dict[str, str]) -> None:
    listed = json.loads(call("images", "--json").stdout)
    assert [(each["id"], each["names"], each["pulled"], each["used_by"]) for each in listed] == [
        (ids["alpine"], [ALPINE], True, []),
        (ids["mine"], [MINE], False, ["web"]),
    ]
    (inspected,) = json.loads(call("inspect", "--json", "alpine").stdout)
    assert inspected.items() > listed[0].items()
    assert (inspected["os"], len(inspected["layers"])) == ("linux", 1)
    for name in (ALPINE, "docker.io/alpine", ids["alpine"], ids["alpine"][7:15]):
        assert json.loads(call("image", "inspect", "--json", name).stdout) == [inspected]


def test_a_home_without_images_has_none_and_is_not_made(home: Path) -> None:
    assert call("images", "-q").stdout == ""
    assert not home.exists()


def test_a_name_that_a_box_and_an_image_have_is_the_box_s(home: Path, ids: dict[str, str]) -> None:
    fill(home, box("alpine", BoxState.STOPPED))
    (found,) = json.loads(call("inspect", "alpine").stdout)
    assert found["name"] == "alpine"
    assert json.loads(call("inspect", "web").stdout)[0]["image_id"] == ids["mine"]
    assert json.loads(call("inspect", "--type", "image", "alpine").stdout)[0]["id"] == ids["alpine"]
    ended = call("inspect", "--type", "box", "mine", "alpine")
    assert (ended.status, len(json.loads(ended.stdout))) == (1, 1)
    ended = call("image", "inspect", "none", MINE)
    assert (ended.status, ended.stderr, len(json.loads(ended.stdout))) == (1, f"boxlite: {NONE}\n", 1)


def test_names_are_completed(ids: dict[str, str]) -> None:
    assert complete("rmi", "") == ["alpine:latest", MINE]
    assert complete("rmi", "al") == ["alpine:latest"]
    assert complete("tag", "docker.io/") == [ALPINE]
    assert complete("run", "") == ["builtin/python", "alpine:latest", MINE]
    assert complete("inspect", "w") == ["web"]
    assert "image" in complete("im")


def test_images_are_named_and_removed_as_docker_does(ids: dict[str, str]) -> None:
    assert call("tag", "alpine", "other").status == 0
    assert json.loads(call("tag", "--json", ids["alpine"], "third:3").stdout) == {"name": "docker.io/library/third:3"}
    ended = call("rmi", "other", "none", MINE)
    assert ended.stdout == "Untagged: docker.io/library/other:latest\n"
    assert "there is no image none here" in ended.stderr
    assert "in use by the box web" in ended.stderr
    assert ended.status == 1
    ended = call("rmi", "--json", "-f", ids["alpine"][7:19], MINE)
    first, second = json.loads(ended.stdout)["images"]
    assert (first["ok"], first["deleted"], ended.status) == (True, [ids["alpine"]], 0)
    assert (second["untagged"], second["deleted"]) == ([MINE], [])
    # The box still needs it.
    assert call("prune", "--all").stdout == "Freed: 0 B\n"
    assert json.loads(call("images", "--json").stdout)[0]["names"] == []
    assert "<none>" in call("images").stdout


def test_archives_go_through_files_and_pipes(ids: dict[str, str], tmp_path: Path) -> None:
    assert call("save", "-o", str(tmp_path / "a.tar"), "alpine").status == 0
    assert json.loads(call("prune", "--all", "--json").stdout)["deleted"] == [ids["alpine"]]
    assert call("load", "-i", str(tmp_path / "a.tar")).stdout == f"{ALPINE}\n"
    piped = subprocess.run(
        f"{sys.executable} -m boxlite save alpine | {sys.executable} -m boxlite load --name copy:1 --json",
        shell=True,
        capture_output=True,
        check=True,
    )
    (info,) = json.loads(piped.stdout)
    assert (info["id"], info["names"]) == (ids["alpine"], [ALPINE, "docker.io/library/copy:1"])
    assert call("save", "--format", "oci", "-o", str(tmp_path / "layout"), "alpine").status == 0
    assert call("load", "-i", str(tmp_path / "layout")).status == 0


def test_what_makes_no_sense_is_refused(ids: dict[str, str], tmp_path: Path) -> None:
    for arguments in (
        ["save", "--format", "oci", "alpine"],
        ["load", "alpine"],
        ["load", "--from", "docker"],
        ["load", "--from", "docker", "-i", "x", "alpine"],
        ["run", "--pull", "sometimes", "alpine"],
    ):
        assert isinstance(call(*arguments).error, click.UsageError)
    assert "/missing cannot be loaded: there is no such file" in call("load", "-i", str(tmp_path / "missing")).stderr
    write(tmp_path / "evil.tar", *docker_members([ONE], "../../etc:1"))
    ended = call("load", "--json", "-i", str(tmp_path / "evil.tar"))
    assert json.loads(ended.stdout)["errors"][0]["type"] == "ImageDamaged"
    assert len(json.loads(call("images", "--json").stdout)) == 2


def test_a_daemon_that_does_not_run_is_told_with_its_places(ids: dict[str, str], tmp_path: Path) -> None:
    ended = call("load", "--json", "--from", "docker", "alpine", DOCKER_HOST=f"unix://{tmp_path}/none")
    (error,) = json.loads(ended.stdout)["errors"]
    assert error["type"] == "DaemonUnavailable"
    assert f"{tmp_path}/none" in error["message"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """With two images."""
    directory = tmp_path_factory.mktemp("registry")
    with open_registry(directory / "run", directory / "storage") as daemon:
        for name, tars in (("one", [ONE]), ("two", [ONE, TWO])):
            push(write_layout(directory / name, tars), "latest", daemon, f"team/{name}:1")
        yield daemon


def test_pulls_go_on_after_one_that_fails(home: Path, registry: Daemon) -> None:
    names = [f"{registry.place}/team/{name}:1" for name in ("one", "none", "two")]
    ended = call("pull", *names)
    assert (ended.status, ended.stdout.split()) == (1, [names[0], names[2]])
    assert names[1] in ended.stderr
    first, second, third = json.loads(call("pull", "--json", *names).stdout)["images"]
    assert (first["image"]["names"], second["ok"], second["error"]["type"]) == ([names[0]], False, "ImageNotFound")
    assert third["image"]["id"] == json.loads(call("inspect", names[2]).stdout)[0]["id"]
    assert len(json.loads(call("images", "--json").stdout)) == 2


def test_a_pull_that_is_killed_goes_on_with_the_next(home: Path, registry: Daemon) -> None:
    """Between any two of its changes to the store; of each sixth one, so that it stays quick."""
    name = f"{registry.place}/team/two:1"
    command = [sys.executable, "-m", "tests.images.store.kill_pulls", str(home), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 2


async def test_pull_says_when_the_registry_is_asked(home: Path, registry: Daemon, tmp_path: Path) -> None:
    """As for `run --pull`, up to where a machine would be needed."""
    name, ids = f"{registry.place}/team/moving:1", []
    async with boxlite.open_runtime(ephemeral=True) as runtime:
        with show_progress(quiet=True) as stage:
            with pytest.raises(boxlite.ImageNotFound, match="`boxlite pull` brings it in"):
                await bring_in(runtime, name, stage, "never")
            for number, (layer, policy) in enumerate(
                [(ONE, "missing"), (TWO, "missing"), (TWO, "never"), (TWO, "always")]
            ):
                push(write_layout(tmp_path / f"{number}", [layer]), "latest", registry, "team/moving:1")
                await bring_in(runtime, name, stage, policy)
                ids.append((await runtime.images.get(name)).id)
        assert len(await runtime.images.list()) == 2
    assert ids[0] == ids[1] == ids[2] != ids[3]
