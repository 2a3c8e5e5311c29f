"""Finding what a user has logged in with, in the files and helpers of Docker and Podman."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio

from boxlite.errors import InvalidRegistryConfig
from boxlite.images.registry.config import Credentials, RegistryConfig
from boxlite.images.registry.credentials import credential_files, find_credentials
from boxlite.images.registry.helper import ask_helper


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


async def look_up(
    *files: Path, registry: str = "r.test", repository: str = "a/b", **options: Any
) -> Credentials | None:
    found = await find_credentials(registry, repository, RegistryConfig(credential_files=files, **options))
    return None if found is None else found.credentials


def helper(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    program = directory / "bin" / f"docker-credential-{name}"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_podmans_files_come_before_dockers(tmp_path: Path) -> None:
    assert credential_files({"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/7"}) == (
        Path("/run/user/7/containers/auth.json"),
        Path("/home/me/.config/containers/auth.json"),
        Path("/home/me/.docker/config.json"),
    )
    assert credential_files({"HOME": "/h", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"}) == (
        Path(f"/run/containers/{os.getuid()}/auth.json"),
        Path("/c/containers/auth.json"),
        Path("/d/config.json"),
    )
    assert credential_files({"REGISTRY_AUTH_FILE": "/x", "DOCKER_CONFIG": "/d"}) == (Path("/x"),)


async def test_the_first_file_that_has_something_counts(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", {})
    blank = tmp_path / "blank"
    blank.write_text("")
    first = write(tmp_path / "first", {"auths": {"r.test": auth("a:1")}})
    second = write(tmp_path / "second", {"auths": {"r.test": auth("b:2")}})
    assert await look_up(tmp_path / "missing", empty, blank, first, second) == Credentials("a", "1")
    assert await look_up(second, first) == Credentials("b", "2")
    assert await look_up(empty) is None
    given = {"r.test": Credentials("c", "3")}
    assert await look_up(first, credentials=given) == Credentials("c", "3")


@pytest.mark.parametrize(
    "key",
    [
        "r.test",
        "https://r.test",
        "http://r.test/",
        "https://r.test/v1/",
        "https://r.test/v2/",
        "r.test/a",
        "r.test/a/b",
    ],
)
async def test_keys_are_hosts_addresses_or_podmans_places(tmp_path: Path, key: str) -> None:
    file = write(tmp_path / "file", {"auths": {key: auth("a:1"), "r.test:5000": auth("x:9"), "r.tes": auth("y:9")}})
    assert await look_up(file) == Credentials("a", "1")


async def test_the_longest_place_counts(tmp_path: Path) -> None:
    auths = {"r.test": auth("a:1"), "r.test/team": auth("b:2"), "r.test/team/app": auth("c:3")}
    file = write(tmp_path / "file", {"auths": auths})
    assert await look_up(file, repository="team/app") == Credentials("c", "3")
    assert await look_up(file, repository="team/other") == Credentials("b", "2")
    assert await look_up(file, repository="teams/app") == Credentials("a", "1")


@pytest.mark.parametrize("key", ["docker.io", "https://index.docker.io/v1/", "index.docker.io"])
async def test_dockers_own_registry_has_many_names(tmp_path: Path, key: str) -> None:
    file = write(tmp_path / "file", {"auths": {key: auth("a:1")}})
    assert await look_up(file, registry="docker.io", repository="library/x") == Credentials("a", "1")


async def test_all_kinds_of_entries_are_read(tmp_path: Path) -> None:
    entries: list[tuple[dict[str, Any], Credentials | None]] = [
        (auth("a:b:c"), Credentials("a", "b:c")),
        (auth("a:1\0\0"), Credentials("a", "1")),
        ({"username": "a", "password": "1"}, Credentials("a", "1")),
        ({"identitytoken": "t"}, Credentials(identity_token="t")),
        ({**auth("<token>:"), "identitytoken": "t"}, Credentials("<token>", "", identity_token="t")),
        ({"registrytoken": "t"}, Credentials(registry_token="t")),
        ({}, None),
        ({"email": "a@b"}, None),
    ]
    for number, (entry, expected) in enumerate(entries):
        file = write(tmp_path / str(number), {"auths": {"r.test": entry}})
        assert await look_up(file) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "\xff",
        '{"auths": []}',
        '{"auths": {"r.test": 5}}',
        '{"auths": {"r.test": {"auth": "!"}}}',
        '{"auths": {"r.test": {"auth": "YWJj"}}}',
        '{"auths": {"r.test": {"auth": 5}}}',
        '{"credHelpers": {"r.test": 5}}',
        '{"credsStore": []}',
        '{"credsStore": "../../bin/sh"}',
        '{"credsStore": "no-such-helper-anywhere"}',
        "[" * 100_000,
    ],
)
async def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidRegistryConfig) as caught:
        await look_up(file)
    assert "YWJj" not in str(caught.value)


async def test_a_file_that_cannot_be_read_or_is_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRegistryConfig, match="cannot be read"):
        await look_up(tmp_path)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(InvalidRegistryConfig, match="no credentials"):
        await look_up(tmp_path / "large")


# Helpers


async def test_a_helper_of_a_registry_comes_before_the_one_of_all_and_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = """printf '{"Username": "%s", "Secret": "%s"}' NAME "$(cat)" """
    helper(tmp_path, monkeypatch, "one", answer.replace("NAME", "one"))
    helper(tmp_path, monkeypatch, "all", answer.replace("NAME", "all"))
    document = {"credHelpers": {"r.test": "one"}, "credsStore": "all", "auths": {"r.test": auth("file:1")}}
    file = write(tmp_path / "file", document)
    assert await look_up(file) == Credentials("one", "r.test")
    assert await look_up(file, registry="other.test") == Credentials("all", "other.test")
    hub = Credentials("all", "https://index.docker.io/v1/")
    assert await look_up(file, registry="docker.io") == hub


async def test_a_helper_that_knows_nothing_leaves_it_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, "none", "echo credentials not found in native keychain; exit 1")
    file = write(tmp_path / "file", {"credsStore": "none", "auths": {"r.test": auth("file:1")}})
    assert await look_up(file) == Credentials("file", "1")


async def test_a_helper_may_give_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "t", """echo '{"Username": "<token>", "Secret": "s"}'""")
    assert await ask_helper("t", "r.test") == Credentials(identity_token="s")


@pytest.mark.parametrize(
    "script", ["exit 1", "echo locked; exit 2", "echo", "echo []", "kill -9 $$", "echo '{\"Secret\": 5}'"]
)
async def test_a_helper_that_fails_is_an_error_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    helper(tmp_path, monkeypatch, "bad", script)
    with pytest.raises(InvalidRegistryConfig, match="docker-credential-bad"):
        await ask_helper("bad", "r.test")


@pytest.mark.parametrize("name", ["", "..", "../sh", "a/b", "-x", "a b", "a\0b", "a\n", "ü", "x" * 65])
async def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InvalidRegistryConfig, match="no name of a credential helper"):
        await ask_helper(name, "r.test")


async def test_a_helper_that_never_answers_ends_with_its_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    helper(tmp_path, monkeypatch, "slow", f"exec cat {fifo}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_helper, "slow", "r.test")
        # Opening for writing waits until it reads.
        writer = await trio.to_thread.run_sync(os.open, fifo, os.O_WRONLY)
        nursery.cancel_scope.cancel()
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)
