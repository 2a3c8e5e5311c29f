"""The lab itself: a real machine with a real /dev/kvm, in which libkrun runs a box."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from boxlite.vmm.engines import choose_engine
from boxlite.vmm.facts import gather_facts
from lab.__main__ import UNAVAILABLE
from lab.contents import CHECKOUT
from lab.errors import LabUnavailable
from lab.kernel import ensure_outer_kernel
from lab.machine import open_machine
from lab.preparation import cache_directory
from tests.lab.inside import BEHAVIOURS
from tests.vmm.guest_disk import make_disk
from tests.vmm.processes import until
from vmm_ffi.spec import DiskSpec, InstanceSpec, VmmKind

LIMIT = 540
"""Seconds, on a machine that does much else. An idle one takes a minute."""


def in_lab(*command: str) -> list[str]:
    """What the command printed; skips where there is no lab."""
    done = subprocess.run(
        [sys.executable, "-m", "lab", "run", "--", *command],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    if done.returncode == UNAVAILABLE:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif("BOXLITE_LAB" in os.environ, reason="this is the lab")
def test_a_box_runs_on_libkrun_in_a_machine_of_our_own() -> None:
    """With volumes, and a few of the conformance suite's behaviours; `make lab` holds all of them."""
    jail = "jail kvm,null,urandom, 1 filter, 2 namespaces, another user"
    expected = ["engine krun", jail, "volumes held", *(f"held {behaviour.__name__}" for behaviour in BEHAVIOURS)]
    assert in_lab("python", "-m", "tests.lab.inside") == expected


async def test_a_lab_that_is_terminated_leaves_nothing(sockets: Path) -> None:
    with trio.fail_after(LIMIT):
        lab = await trio.lowlevel.open_process(
            [sys.executable, "-m", "lab", "run", "--", "true"],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": str(sockets)},
        )
        try:
            await until(lambda: bool(os.listdir(sockets)) or lab.poll() is not None, LIMIT)
            lab.terminate()
            status = await lab.wait()
        finally:
            lab.kill()
            await lab.wait()
    if status == UNAVAILABLE:
        pytest.skip("there is no lab on this host")
    assert status == 128 + signal.SIGTERM
    assert os.listdir(sockets) == []


async def test_a_machine_that_does_not_come_up_says_what_it_printed(tmp_path: Path) -> None:
    choice = choose_engine(await gather_facts(), VmmKind.QEMU)
    cache = cache_directory()
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        kernel = await ensure_outer_kernel(cache)
    except LabUnavailable as error:
        pytest.skip(str(error))
    spec = InstanceSpec(
        box_id="lab",
        kind=choice.kind,
        accelerator=choice.accelerator,
        program=str(choice.program),
        tsc_khz=choice.tsc_khz,
        kernel=str(kernel),
        disks=(DiskSpec(str(make_disk(tmp_path / "root.ext4", tmp_path / "tree")), "root"),),
        kernel_args=("test.script=hello",),
        nested=True,
    )
    with pytest.raises(LabUnavailable, match=r"(?s)does not come up.*exited with status 0.*guest: hello"):
        async with open_machine(spec):
            raise AssertionError("it came up")
