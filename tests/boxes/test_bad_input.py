"""Whatever a caller gives, the answer is a clear error or a plain outcome, and the box goes on."""

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

import boxlite
from boxlite import BoxState, Exited
from boxlite.boxes.command import MAX_ARGUMENT, MAX_ARGUMENTS
from tests.boxes.guest_processes import shell
from tests.images.archives import archive, file
from tests.images.layouts import blob_path, digest, put_image, write_index
from tests.shared_box import TEST_TIMEOUT, in_shared_box


async def refused(use: Callable[[], Awaitable[object]], box: boxlite.Box, *kinds: type[Exception]) -> str:
    """The message of the error, which is of all these kinds; the box takes commands afterwards."""
    with pytest.raises(boxlite.BoxliteError) as caught:
        await use()
    for kind in kinds:
        assert isinstance(caught.value, kind)
    assert (await box.run(["echo", "fine"])).stdout == b"fine\n"
    return str(caught.value)


async def by_run_and_exec(
    box: boxlite.Box, argv: list[str | bytes], *kinds: type[Exception], cwd: str | None = None, user: str | None = None
) -> str:
    """The message with which `exec` refuses the command; `run` refuses it with the same one."""

    async def execute() -> None:
        async with box.exec(argv, cwd=cwd, user=user):
            pass

    message = await refused(execute, box, *kinds)
    assert await refused(lambda: box.run(argv, cwd=cwd, user=user), box, *kinds) == message
    return message


@in_shared_box
async def test_a_command_that_does_not_exist_exits_with_127_as_in_a_shell(box: boxlite.Box) -> None:
    done = await box.run(["nope"], check=False)
    assert (done.outcome, done.stderr) == (Exited(127), b"boxlite: nope: command not found\n")
    assert str(done.outcome) == "exited with code 127: nope: command not found"
    done = await box.run(["/nope/nope"], check=False)
    assert (done.outcome, done.stderr) == (Exited(127), b"boxlite: /nope/nope: No such file or directory\n")


@in_shared_box
async def test_a_checked_command_that_does_not_exist_says_so_once(box: boxlite.Box) -> None:
    with pytest.raises(boxlite.CommandFailed) as caught:
        await box.run(["nope"])
    assert str(caught.value) == (
        f"box {box.name}: the command 'nope' exited with code 127: boxlite: nope: command not found"
    )


@in_shared_box
async def test_a_command_that_is_not_executable_exits_with_126(box: boxlite.Box) -> None:
    for path in ("/etc/passwd", "/etc", "/etc/passwd/x"):
        done = await box.run([path], check=False)
        assert done.outcome in (Exited(126), Exited(127))
        assert (done.stderr or b"").startswith(b"boxlite: " + path.encode() + b": ")
    assert (await box.run(["/etc/passwd"], check=False)).outcome == Exited(126)


@in_shared_box
async def test_a_script_whose_interpreter_is_missing(box: boxlite.Box) -> None:
    await box.run(shell("printf '#!/nope\\n' > /tmp/script; chmod +x /tmp/script"))
    assert (await box.run(["/tmp/script"], check=False)).outcome == Exited(127)
    await box.run(["rm", "/tmp/script"])


@in_shared_box
async def test_a_working_directory_that_does_not_exist(box: boxlite.Box) -> None:
    message = await by_run_and_exec(box, ["true"], boxlite.WorkdirNotFound, FileNotFoundError, cwd="/nope")
    assert message == f"box {box.name}: working directory '/nope': No such file or directory"


@in_shared_box
async def test_a_working_directory_that_is_a_file(box: boxlite.Box) -> None:
    message = await by_run_and_exec(box, ["true"], boxlite.WorkdirNotFound, cwd="/etc/passwd")
    assert message.endswith("'/etc/passwd': Not a directory")


@in_shared_box
async def test_a_user_or_group_that_does_not_exist(box: boxlite.Box) -> None:
    message = await by_run_and_exec(box, ["true"], boxlite.UserNotFound, LookupError, user="nope")
    assert message == f"box {box.name}: no user 'nope' in the container's /etc/passwd"
    message = await by_run_and_exec(box, ["true"], boxlite.UserNotFound, user="root:nope")
    assert message == f"box {box.name}: no group 'nope' in the container's /etc/group"


@in_shared_box
async def test_users_that_nobody_can_be(box: boxlite.Box) -> None:
    for user in ("4294967296", "-1", "x" * 255, "\N{SNOWMAN}", "a b", "::", "../../etc"):
        await by_run_and_exec(box, ["true"], boxlite.UserNotFound, user=user)
    for user in ("a\0b", "a\nb", "\udcff", "x" * 10_000):
        await by_run_and_exec(box, ["true"], boxlite.InvalidCommand, ValueError, user=user)


@in_shared_box
async def test_an_empty_command(box: boxlite.Box) -> None:
    assert "empty" in await by_run_and_exec(box, [], boxlite.InvalidCommand, ValueError)
    assert "empty" in await by_run_and_exec(box, [""], boxlite.InvalidCommand, ValueError)


@in_shared_box
async def test_a_nul_in_an_argument(box: boxlite.Box) -> None:
    assert "NUL" in await by_run_and_exec(box, ["echo", "a\0b"], boxlite.InvalidCommand, ValueError)
    assert "NUL" in await by_run_and_exec(box, [b"echo", b"\0"], boxlite.InvalidCommand, ValueError)


@in_shared_box
async def test_ten_megabytes_of_arguments(box: boxlite.Box) -> None:
    message = await by_run_and_exec(box, ["echo", *["x" * 100_000] * 100], boxlite.ArgumentsTooLong, OSError)
    assert "pass large data as input" in message


@in_shared_box
async def test_more_arguments_than_this_guests_kernel_takes(box: boxlite.Box) -> None:
    """Between what no Linux takes and what this one does, the guest decides."""
    argv: list[str | bytes] = ["echo", *["x" * 100_000] * 30]
    assert MAX_ARGUMENTS > 3_000_000
    await by_run_and_exec(box, argv, boxlite.ArgumentsTooLong, OSError)


@in_shared_box
async def test_one_argument_of_a_mebibyte(box: boxlite.Box) -> None:
    message = await by_run_and_exec(box, ["echo", "x" * (1 << 20)], boxlite.ArgumentsTooLong, OSError)
    assert "pass large data as input" in message


@in_shared_box
async def test_the_longest_argument_that_linux_takes(box: boxlite.Box) -> None:
    longest = "x" * (MAX_ARGUMENT - 1)
    assert (await box.run(["printf", "%s", longest])).stdout == longest.encode()


@in_shared_box
async def test_an_environment_with_odd_characters(box: boxlite.Box) -> None:
    odd = {
        "NEWLINE": "a\nb\n",
        "EQUALS": "=a=b=",
        "EMPTY": "",
        "RAW": "\udcff\udc80",
        "TEXT": "ä€\N{SNOWMAN}",
        "a name.with-odd characters": "x",
        "ÄÖ\n": "\t\x01\x7f",
    }
    done = await box.run(["python3", "-c", "import os; print(dict(os.environb))"], env=odd)
    seen = ast.literal_eval((done.stdout or b"").decode())
    expected = {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in odd.items()}
    assert {name: seen[name] for name in expected} == expected


@in_shared_box
async def test_names_that_no_variable_can_have(box: boxlite.Box) -> None:
    for env in ({"": "x"}, {"A=B": "x"}, {"A": "\0"}):
        await refused(lambda env=env: box.run(["true"], env=env), box, boxlite.InvalidCommand)  # type: ignore[misc]


@in_shared_box
async def test_an_impossible_timeout(box: boxlite.Box) -> None:
    for timeout in (0, -1.5, float("nan")):
        await refused(lambda timeout=timeout: box.run(["true"], timeout=timeout), box, boxlite.InvalidCommand)  # type: ignore[misc]


async def failed_start(home: Path, image: str, error: type[Exception]) -> str:
    """The message with which a box of this image does not start; nothing of it is left but its name and the cause."""
    with trio.fail_after(TEST_TIMEOUT):
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            box = await runtime.create(image, name="broken")
            assert (await box.status()).state is BoxState.CONFIGURED
            with pytest.raises(error) as caught:
                await box.run(["true"])
            assert isinstance(caught.value, boxlite.ImageError)
            status = await box.status()
            assert (status.state, status.cause, status.pid) == (BoxState.FAILED, str(caught.value), None)
            with pytest.raises(boxlite.BoxNotRunning, match=r"it is failed .*start\(\) starts it again"):
                await box.run(["true"])
            await box.remove()
            return str(caught.value)


async def test_an_image_that_is_not_there(home: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "nope") in await failed_start(home, f"oci:{tmp_path}/nope", boxlite.ImageNotFound)
    assert "builtin/python" in await failed_start(home, "builtin/nope", boxlite.ImageNotFound)


async def test_a_damaged_layer(home: Path, tmp_path: Path) -> None:
    layer = image_of_one_layer(tmp_path)
    content = bytearray(layer.read_bytes())
    content[len(content) // 2] ^= 1
    layer.write_bytes(content)
    message = await failed_start(home, f"oci:{tmp_path}", boxlite.ImageDamaged)
    assert layer.name in message


async def test_a_layer_that_is_missing(home: Path, tmp_path: Path) -> None:
    layer = image_of_one_layer(tmp_path)
    layer.unlink()
    message = await failed_start(home, f"oci:{tmp_path}", boxlite.ImageNotFound)
    assert layer.name in message


def image_of_one_layer(layout: Path) -> Path:
    """Writes an image, and gives the file of its layer."""
    tar = archive(file(b"etc/passwd", b"x" * 1000))
    write_index(layout, put_image(layout, [tar]))
    return blob_path(layout, digest(tar))


async def test_what_is_no_images_name(home: Path) -> None:
    async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
        for image in ("", "Python", "oci:", "ftp://alpine", "builtin/../x", "a b", "-rf", "x:", "x@sha256:0"):
            with pytest.raises((boxlite.InvalidReference, boxlite.ImageNotFound)):
                await runtime.create(image)
        assert await runtime.list() == ()


async def test_a_socket_path_that_is_too_long(home: Path, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with pytest.raises(boxlite.SocketPathTooLong, match="runtime_dir of open_runtime, to a shorter directory"):
        async with boxlite.open_runtime(home=home, runtime_dir=long):
            pass
    assert list(long.iterdir()) == []
