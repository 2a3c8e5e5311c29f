"""The tests that run in the lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import trio

from lab.contents import CHECKOUT

TESTS: Final = (
    *("tests/testing/conformance/test_local.py", "tests/boxes/test_real_volumes.py", "tests/benchmarks/test_bare.py"),
    *("tests/templates/test_real.py", "tests/vmm_ffi/jail/test_cgroup.py"),
    *("-k", "krun or (test_real.py and not memory_of_clones) or test_a_machine_in_its_group"),
)
"""What of the conformance suite, of volumes and of templates is about libkrun, and the bare machines beside it; limits
of a group, which hosts without cgroup v2 cannot show."""

# What is not run there is a failure: nobody else runs it.
_OPTIONS: Final = ("-p", "lab.no_skips", "-p", "no:cacheprovider", "-v")


async def prepare_tests(arguments: Sequence[str]) -> list[str]:
    """The command that runs them in the lab.

    They are collected here first: pytest compiles what it loads in its own way, which would take minutes there.
    """
    chosen = arguments or TESTS
    await trio.run_process(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "lab.no_skips", *chosen],
        cwd=CHECKOUT,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return ["python", "-m", "pytest", *_OPTIONS, *chosen]
