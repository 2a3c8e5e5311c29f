"""`boxlite run` in real virtual machines. Each test boots one, so each holds more than one law."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import termios
from pathlib import Path

import trio

from tests.cli.conftest import OpenProcess, read_to_end

RUN = ("-m", "boxlite", "run")

CATCH_SIGTERM = """
import signal
signal.signal(signal.SIGTERM, lambda *_: print("caught", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


def machines(home: Path) -> list[int]:
    """The pids of the virtual machines whose disks are in this home."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if b"qemu" in command.split(b"\0")[0] and os.fsencode(home) in command:
            found.append(int(entry.parent.name))
    return found


def nothing_is_left(home: Path) -> bool:
    return not machines(home) and not list((home / "runs").iterdir())


async def expect(box: trio.Process, text: bytes) -> None:
    """Reads what the command prints next; where it is something else, stderr may say why."""
    assert box.stdout is not None
    said = await box.stdout.receive_some()
    assert said == text, (said, await read_to_end(box.stderr))


async def test_streams_are_copied_byte_for_byte_and_the_status_is_the_commands(
    open_process: OpenProcess, home: Path
) -> None:
    """A pipe is forwarded without -i; environment, directory and user are those that were asked for."""
    data = random.Random(0).randbytes(3_000_000)
    options = ("-e", "A=b c", "-w", "/tmp", "-u", "12:34", "--name", "mybox")
    script = 'echo "$(hostname) $A $PWD $(id -u):$(id -g)"; cat; echo to stderr >&2; exit 7'
    async with open_process(*RUN, *options, "builtin/python", "--", "sh", "-c", script, stdin=subprocess.PIPE) as box:
        assert box.stdin is not None
        async with trio.open_nursery() as nursery, box.stdin:
            nursery.start_soon(box.stdin.send_all, data)
            assert box.stdout is not None
            output = b""
            while len(output) < len(data):
                output += await box.stdout.receive_some()
        output += await read_to_end(box.stdout)
        assert await read_to_end(box.stderr) == b"to stderr\n"
    assert output == b"mybox b c /tmp 12:34\n" + data
    assert box.returncode == 7
    assert nothing_is_left(home)


async def test_programs_get_one_object_and_a_missing_command_is_127(open_process: OpenProcess) -> None:
    async with open_process(*RUN, "--json", "--timings", "builtin/python", "nonesuch") as box:
        document = json.loads(await read_to_end(box.stdout))
    assert box.returncode == 127
    assert (document["exit_code"], document["outcome"]) == (127, {"kind": "exited", "code": 127})
    assert "nonesuch: command not found" in document["stderr"]["data"]
    assert document["duration_seconds"] >= 0
    stages = document["stage_seconds"]
    assert [stage for stage in stages if "." not in stage] == ["load", "open", "prepare", "start", "command", "remove"]
    assert stages["start.spawn"] < stages["start"]
    assert 0 <= stages["command.sent"] <= stages["command.started"] <= stages["command.ended"] <= stages["command"]


async def test_a_reader_that_leaves_ends_the_command_quietly(open_process: OpenProcess, home: Path) -> None:
    """As in `boxlite run IMAGE -- yes | head -c 10`."""
    async with open_process(*RUN, "builtin/python", "--", "yes") as box:
        assert box.stdout is not None
        assert (await box.stdout.receive_some(10)).startswith(b"y\ny\n")
        await box.stdout.aclose()
        assert await read_to_end(box.stderr) == b""
    assert box.returncode == 128 + signal.SIGPIPE
    assert nothing_is_left(home)


async def test_the_first_signal_is_the_commands_and_the_second_removes_the_box(
    open_process: OpenProcess, home: Path
) -> None:
    async with open_process(*RUN, "builtin/python", "--", "python3", "-c", CATCH_SIGTERM) as box:
        await expect(box, b"ready\n")
        box.send_signal(signal.SIGTERM)
        await expect(box, b"caught\n")
        box.send_signal(signal.SIGTERM)
        assert await read_to_end(box.stderr) == b""
    assert box.returncode == 128 + signal.SIGTERM
    assert nothing_is_left(home)


async def test_ctrl_c_during_the_boot_ends_it(open_process: OpenProcess, home: Path) -> None:
    async with open_process(*RUN, "builtin/python", "--", "true") as box:
        while not machines(home):  # noqa: ASYNC110 (nothing tells of another process's child)
            await trio.sleep(0.05)
        box.send_signal(signal.SIGINT)
        assert await read_to_end(box.stderr) == b""
    assert box.returncode == 128 + signal.SIGINT
    assert nothing_is_left(home)


async def test_a_machine_that_dies_under_the_command_is_told_with_125(open_process: OpenProcess, home: Path) -> None:
    async with open_process(*RUN, "builtin/python", "--", "sh", "-c", "echo ready; sleep 1000") as box:
        await expect(box, b"ready\n")
        (machine,) = machines(home)
        os.kill(machine, signal.SIGKILL)
        told = (await read_to_end(box.stderr)).decode()
    assert box.returncode == 125
    assert re.match(r"boxlite: the command lost its virtual machine: .*SIGKILL", told), told
    assert nothing_is_left(home)


async def test_a_timeout_kills_the_command_with_124_and_keeps_what_it_wrote(open_process: OpenProcess) -> None:
    async with open_process(
        *RUN, "--timeout", "3", "builtin/python", "--", "sh", "-c", "echo ready; sleep 1000"
    ) as box:
        assert await read_to_end(box.stdout) == b"ready\n"
        assert await read_to_end(box.stderr) == b"boxlite: the command timed out\n"
    assert box.returncode == 124


async def test_a_terminal_is_the_commands_own_and_comes_back_as_it_was(open_process: OpenProcess) -> None:
    """With -it every key goes to the box, Ctrl-C and Ctrl-D included, and each new size of the window is told."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    before = termios.tcgetattr(slave)

    async def see(pattern: bytes) -> None:
        seen = b""
        while not re.search(pattern, seen):
            await trio.lowlevel.wait_readable(master)
            seen += os.read(master, 4096)

    arguments = ("-it", "-e", "PS1=(box) ", "builtin/python", "--", "sh")
    async with open_process(*RUN, *arguments, stdin=slave, stdout=slave, stderr=slave) as box:
        await see(rb"\(box\) ")
        os.write(master, b"stty size; echo $TERM\n")
        await see(rb"\n30 90\r\n" + os.fsencode(os.environ.get("TERM", "")))
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 111, 0, 0))
        box.send_signal(signal.SIGWINCH)  # which the terminal itself sends to those whose terminal it is
        os.write(master, b"until stty size | grep '44 111'; do sleep 0.1; done\n")
        await see(rb"\n44 111\r\n")
        os.write(master, b"sh -c 'echo run''ning; exec sleep 1000'\n")
        await see(rb"\nrunning\r\n")
        os.write(master, b"\x03")
        await see(rb"\(box\) ")
        os.write(master, b"(exit 42)\n\x04")
        await box.wait()
    assert box.returncode == 42
    assert before == termios.tcgetattr(slave)
    os.close(slave)
    os.close(master)
