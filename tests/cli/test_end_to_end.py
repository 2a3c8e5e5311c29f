"""A box from its creation to its removal, as a user of a shell goes through it: each step is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import attrs
import pytest
import trio

from tests.cli.conftest import OpenProcess, read_to_end
from tests.faults.conftest import furnish
from tests.images.archives import archive, directory, file, symlink
from tests.images.layouts import TAG, put_image, write_index
from tests.images.registry.real import open_registry, push
from tests.leftovers import machines


@attrs.frozen
class Ended:
    status: int
    stdout: str
    stderr: str


Boxlite: TypeAlias = Callable[..., Awaitable[Ended]]


@pytest.fixture
def own_home(home: Path, environment: dict[str, str], tmp_path: Path) -> Path:
    """Boxes of its own, and the images and templates of the other tests."""
    environment["BOXLITE_HOME"] = str(tmp_path)
    return furnish(tmp_path, home)


@pytest.fixture
async def boxlite(open_process: OpenProcess, own_home: Path, environment: dict[str, str]) -> AsyncIterator[Boxlite]:
    """Calls the command line; at the end no machine may be left."""

    async def boxlite(*arguments: str) -> Ended:
        async with open_process("-m", "boxlite", *arguments) as process:
            stdout = (await read_to_end(process.stdout)).decode()
            stderr = (await read_to_end(process.stderr)).decode()
        assert process.returncode is not None
        return Ended(process.returncode, stdout, stderr)

    with tempfile.TemporaryDirectory(prefix="boxlite-test-") as sockets:
        environment["BOXLITE_RUNTIME_DIR"] = sockets
        try:
            yield boxlite
            left = machines(Path(sockets))
        finally:
            for pid in machines(Path(sockets)):
                os.kill(pid, signal.SIGKILL)
        assert left == set()


async def test_a_box_goes_from_create_to_rm(boxlite: Boxlite, open_process: OpenProcess, own_home: Path) -> None:
    assert await boxlite("create", "--name", "web", "-e", "A=b", "builtin/python") == Ended(0, "web\n", "")
    taken = await boxlite("create", "--name", "web", "builtin/python")
    assert (taken.status, "exists already" in taken.stderr) == (125, True)
    assert await boxlite("start", "web", "nobody") == Ended(1, "web\n", "boxlite: box nobody: there is no such box\n")

    # Its machine has outlived the command that started it, and the next one takes it over.
    status = await boxlite("exec", "web", "--", "sh", "-c", "echo $A; echo error >&2; exit 7")
    assert status == Ended(7, "b\n", "error\n")
    assert (await boxlite("exec", "web", "nonesuch")).status == 127

    counting = "for i in 1 2 3; do echo $i; sleep 0.2; done; exit 3"
    execution = (await boxlite("exec", "-d", "web", "--", "sh", "-c", counting)).stdout.strip()
    attached = await boxlite("attach", "--json", "web", execution)
    assert attached.status == 3
    assert json.loads(attached.stdout)["stdout"] == {"encoding": "utf-8", "data": "1\n2\n3\n"}
    assert (await boxlite("attach", "web", "nonesuch")).status == 125

    # While another process has the home, what only reads works, and the rest says who has it.
    holder = ("-m", "boxlite", "exec", "-i", "web", "--", "sh", "-c", "echo ready; cat")
    async with open_process(*holder, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert await process.stdout.receive_some() == b"ready\n"
        assert (await boxlite("ls", "-q")).stdout == "web\n"
        assert json.loads((await boxlite("stats", "--no-stream", "--json")).stdout)["memory_bytes"] > 1 << 20
        refused = await boxlite("stop", "web")
        assert (refused.status, str(process.pid) in refused.stderr) == (125, True)
        await process.stdin.aclose()

    assert await boxlite("pause", "web") == Ended(0, "web\n", "")
    (found,) = json.loads((await boxlite("inspect", "web")).stdout)
    assert (found["state"], found["options"]["env"]) == ("paused", {"A": "b"})
    assert await boxlite("unpause", "web") == Ended(0, "web\n", "")
    assert (await boxlite("exec", "web", "echo", "again")).stdout == "again\n"
    assert (own_home / "boxes" / found["id"] / "console.log").is_file()
    assert (await boxlite("logs", "web")).status == 0

    kept = await boxlite("rm", "web")
    assert (kept.status, kept.stdout) == (1, "")
    assert json.loads((await boxlite("stop", "--json", "-t", "1", "web")).stdout)["boxes"][0]["ok"] is True
    assert (await boxlite("ls", "-q")).stdout == ""
    assert "stopped" in (await boxlite("ls", "-a")).stdout
    assert await boxlite("rm", "web") == Ended(0, "web\n", "")
    assert (await boxlite("ls", "-aq")).stdout == ""
    assert list((own_home / "boxes").iterdir()) == []


async def test_ctrl_c_while_a_box_starts_leaves_no_machine(
    boxlite: Boxlite, open_process: OpenProcess, environment: dict[str, str]
) -> None:
    await boxlite("create", "--name", "web", "builtin/python")
    sockets = Path(environment["BOXLITE_RUNTIME_DIR"])
    async with open_process("-m", "boxlite", "start", "web") as starting:
        while not machines(sockets):  # noqa: ASYNC110 (nothing tells of another process's child)
            await trio.sleep(0.05)
        starting.send_signal(signal.SIGINT)
        assert await read_to_end(starting.stderr) == b""
    assert starting.returncode == 128 + signal.SIGINT
    assert not machines(sockets)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """`HOST:PORT` of a real one, which has BusyBox as `box:1`, and what it becomes later as `box:2`."""
    busybox = file(b"bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
    links = [symlink(b"bin/" + name, b"busybox") for name in (b"sh", b"cat", b"true")]
    tool = archive(directory(b"bin"), directory(b"tmp"), busybox, *links)
    config = {"Cmd": ["cat", "/version"], "Env": ["PATH=/bin"]}
    with open_registry(tmp_path / "registry", tmp_path / "storage") as daemon:
        for number in (b"1", b"2"):
            layout = tmp_path / f"layout-{number.decode()}"
            image = put_image(layout, [tool, archive(file(b"version", number))], config=config)
            write_index(layout, image | {"annotations": {TAG: "latest"}})
            push(layout, "latest", daemon, f"box:{number.decode()}")
        yield daemon.place


async def test_an_image_of_a_registry_is_pulled_runs_and_stays_what_its_boxes_are_made_from(
    boxlite: Boxlite, registry: str
) -> None:
    """One boot, of the machine that both boxes are restored from."""
    image = f"{registry}/box:1"
    refused = await boxlite("run", "--pull", "never", image)
    assert (refused.status, refused.stdout) == (125, "")
    assert "`boxlite pull` brings it in" in refused.stderr
    done = await boxlite("run", image)
    assert (done.status, done.stdout, done.stderr) == (0, "1", "")
    assert (await boxlite("create", "--name", "web", "--boot-timeout", "140", image)).stdout == "web\n"
    (box,) = json.loads((await boxlite("inspect", "web")).stdout)
    # The name moves on, and the box does not.
    await boxlite("pull", f"{registry}/box:2")
    assert (await boxlite("tag", f"{registry}/box:2", image)).status == 0
    (moved,) = json.loads((await boxlite("inspect", image)).stdout)
    assert moved["id"] != box["image_id"]
    assert (await boxlite("rmi", box["image_id"])).status == 1
    assert moved["id"] in (await boxlite("prune", "--all")).stdout
    done = await boxlite("exec", "web", "--", "cat", "/version")
    assert (done.status, done.stdout, done.stderr) == (0, "1", "")
    assert (await boxlite("rm", "-f", "web")).status == 0
    assert box["image_id"] in (await boxlite("prune")).stdout
