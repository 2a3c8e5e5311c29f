"""Clones of one template are strangers to each other, and know nothing of those before them. Real machines."""

from __future__ import annotations

import mmap
import secrets
import time
from pathlib import Path
from typing import Any

import trio

import boxlite
from boxlite.boxes.start import machine_id
from boxlite.images.sparse import data_ranges
from tests.leftovers import nothing_left
from tests.templates.clones import IMAGE, ask_python, folders, open_clones

LIMIT = 240

PROBE = """
import json, os, random, socket, time, uuid

def read(path, length=None):
    with open(path, "rb") as file:
        return file.read(length).hex()

print(json.dumps({
    "urandom": read("/dev/urandom", 16),
    "random device": read("/dev/random", 16),
    "getrandom": os.getrandom(16).hex(),
    "uuid1": uuid.uuid1().hex,
    "uuid4": uuid.uuid4().hex,
    "random": random.random(),
    "SystemRandom": random.SystemRandom().random(),
    "hash seed": hash("a text"),
    "boot id": read("/proc/sys/kernel/random/boot_id"),
    "uuid of the kernel": read("/proc/sys/kernel/random/uuid"),
    "machine id": read("/etc/machine-id"),
    "hostname": socket.gethostname(),
    "hostname file": read("/etc/hostname"),
    "hosts": read("/etc/hosts"),
}))
"""

FIRST_SEQUENCE_NUMBERS = """
import json, socket, struct, time

raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.settimeout(20)

def secret_part(port):
    # The kernel adds a clock that ticks every 64 ns to a keyed hash of the addresses (net/core/secure_seq.c).
    with socket.socket() as client:
        client.bind(("127.0.0.1", port))
        before = time.time_ns()
        client.connect_ex(("127.0.0.1", 9))
        spread = time.time_ns() - before
    while True:
        packet = raw.recv(4096)
        tcp = packet[(packet[0] & 15) * 4:]
        source, _, sequence = struct.unpack(">HHI", tcp[:8])
        if source == port and tcp[13] == 2:
            return (sequence - (before >> 6)) % 2**32, spread >> 6

print(json.dumps([secret_part(port) for port in range(40000, 40008)]))
"""

OWN = ("hostname", "hostname file", "hosts", "machine id")
"""What is set to something that is known from outside."""


async def test_clones_differ_in_all_that_is_random_and_in_their_names(home: Path, sockets: Path) -> None:
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            open_clones(runtime, "one", "other") as boxes,
        ):
            found: list[dict[str, Any]] = []

            async def probe(box: boxlite.Box) -> None:
                found.append(await ask_python(box, PROBE))

            async with trio.open_nursery() as nursery:
                for box in boxes:
                    nursery.start_soon(probe, box)
            assert {name for name, value in found[0].items() if found[1][name] == value} == set()
            by_name = {values["hostname"]: values for values in found}
            for box in boxes:
                expected = machine_id((await box.status()).id)
                assert bytes.fromhex(by_name[box.name]["machine id"]).split() == [expected.encode()]
                assert bytes.fromhex(by_name[box.name]["hostname file"]).split() == [box.name.encode()]
                assert box.name.encode() in bytes.fromhex(by_name[box.name]["hosts"])


async def test_the_first_sequence_number_of_one_clone_tells_nothing_of_another_one_s(home: Path, sockets: Path) -> None:
    """They would differ by the time between two connections alone, if the kernels shared their secret."""
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            open_clones(runtime, "one", "other") as boxes,
        ):
            one, other = [await ask_python(box, FIRST_SEQUENCE_NUMBERS) for box in boxes]
            # The clocks of the guests may differ by what setting them took.
            slack = 100_000_000 >> 6
            near = [
                min((a - b) % 2**32, (b - a) % 2**32) <= spread + other_spread + slack
                for (a, spread), (b, other_spread) in zip(one, other, strict=True)
            ]
            assert sum(near) <= 1


async def test_the_clock_is_right_and_goes_on(home: Path, sockets: Path) -> None:
    with trio.fail_after(LIMIT):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            open_clones(runtime, "one") as [box],
        ):
            # The time that the answer takes is in the difference.
            program = "import json, time; print(json.dumps([time.time(), time.monotonic()]))"
            before = time.time()
            first = await ask_python(box, program)
            assert -0.5 < first[0] - before < 20
            second = await ask_python(box, program)
            assert abs((second[0] - first[0]) - (second[1] - first[1])) < 0.5


async def test_nothing_of_a_box_gets_into_the_template_that_it_came_from(home: Path, sockets: Path) -> None:
    """Neither its name and environment, nor what it wrote into its memory and onto its disk."""
    name, marker = f"name-{secrets.token_hex(8)}", secrets.token_hex(16)
    with trio.fail_after(LIMIT):
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            await runtime.templates.build(IMAGE, disk_mib=64)
            async with runtime.open_box(IMAGE, name=name, disk_mib=64, env={"TOKEN": marker}) as box:
                write = "echo $TOKEN > /kept; echo $TOKEN > /dev/shm/kept; sync; cat /kept /dev/shm/kept; hostname"
                done = await box.run(["sh", "-c", write])
                assert (done.stdout or b"").split() == [marker.encode(), marker.encode(), name.encode()]
                assert "restore" in runtime.box_metrics()[0].stage_seconds
            files = [path for folder in folders(home) for path in folder.iterdir()]
            assert len(files) >= 4
            for path in files:
                assert not occurs(path, marker.encode())
                assert not occurs(path, name.encode())
                # That the search would find something: the kernel's own words are in every memory.
                assert occurs(path, b"Linux version ") or path.name != "memory"


def occurs(path: Path, text: bytes) -> bool:
    """Whether a file has a text in it; its holes are left out."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(text, max(0, start - len(text)), end) >= 0 for start, end in data_ranges(file.fileno()))
