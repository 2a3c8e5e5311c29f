"""Commands for several boxes, over simulated machines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

import boxlite
from boxlite.cli.several import Done, change_boxes, change_each, describe_done
from boxlite.errors import BoxNotFound, IllegalTransition
from boxlite.testing.host import open_host
from boxlite.testing.runtime import open_simulated_runtime


@pytest.fixture
async def runtime(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[boxlite.Runtime]:
    """What the commands find as the runtime of the home."""
    async with open_simulated_runtime() as runtime:

        @asynccontextmanager
        async def open_runtime(**options: Any) -> AsyncIterator[boxlite.Runtime]:
            yield runtime

        monkeypatch.setattr(boxlite, "open_runtime", open_runtime)
        yield runtime


async def test_what_fails_for_one_box_does_not_keep_it_from_the_others(runtime: boxlite.Runtime) -> None:
    """And each is told in the order in which it was named."""
    for name in ("one", "two", "three"):
        await runtime.create("builtin/python", name=name)
    await (await runtime.get("two")).start()
    done = await change_boxes(["one", "nobody", "two", "three"], "removing", lambda box, *_: box.remove(), {})
    assert [each.name for each in done] == ["one", "nobody", "two", "three"]
    errors = [type(each.error) for each in done]
    assert errors == [type(None), BoxNotFound, IllegalTransition, type(None)]
    assert [box.name for box in await runtime.list()] == ["two"]


async def test_boxes_are_changed_at_the_same_time(runtime: boxlite.Runtime) -> None:
    names = [f"box-{number}" for number in range(20)]
    for name in names:
        await runtime.create("builtin/python", name=name)
    under_way, most = 0, 0

    async def slow(box: boxlite.Box, *_: object) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await trio.sleep(1)
        under_way -= 1

    done = await change_boxes(names, "changing", slow, {})
    assert [each.error for each in done] == [None] * 20
    assert most == 20


async def test_a_stopped_box_can_be_removed_whatever_its_restart_policy(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening the home for a command starts no box: it would be cut off when the command ends, and be in its way."""
    async with open_host() as host:
        monkeypatch.setattr(boxlite, "open_runtime", partial(open_simulated_runtime, host=host))
        async with open_simulated_runtime(host=host) as runtime:
            box = await runtime.create("builtin/python", name="web", restart="always", detached=True)
            await box.start()
            await box.stop()

        async def remove(box: boxlite.Box, *_: object) -> None:
            await trio.sleep(60)
            await box.remove()

        assert await change_boxes(["web"], "removing", remove, {}) == (Done("web"),)


def test_programs_get_the_type_of_each_error() -> None:
    failed = describe_done(Done("web", BoxNotFound("web", "there is no such box")))
    error = {"type": "BoxNotFound", "message": "box web: there is no such box"}
    assert failed == {"name": "web", "ok": False, "error": error}
    assert describe_done(Done("web")) == {"name": "web", "ok": True, "error": None}


def test_a_box_that_is_named_twice_is_changed_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    removed: list[str] = []

    async def remove(box: boxlite.Box, *_: object) -> None:
        removed.append(box.name)
        await box.remove()

    @asynccontextmanager
    async def open_runtime(**options: Any) -> AsyncIterator[boxlite.Runtime]:
        async with open_simulated_runtime() as runtime:
            await runtime.create("builtin/python", name="web")
            yield runtime

    monkeypatch.setattr(boxlite, "open_runtime", open_runtime)
    assert change_each(["web", "web"], "removing", remove, as_json=True) == 0
    assert removed == ["web"]
    assert json.loads(capsys.readouterr().out) == {"boxes": [{"name": "web", "ok": True, "error": None}]}


def test_one_failure_makes_the_status_1_and_is_told_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def open_runtime(**options: Any) -> AsyncIterator[boxlite.Runtime]:
        async with open_simulated_runtime() as runtime:
            await runtime.create("builtin/python", name="web")
            yield runtime

    monkeypatch.setattr(boxlite, "open_runtime", open_runtime)
    assert change_each(["nobody", "web"], "removing", lambda box, *_: box.remove(), as_json=False) == 1
    assert capsys.readouterr() == ("web\n", "boxlite: box nobody: there is no such box\n")
