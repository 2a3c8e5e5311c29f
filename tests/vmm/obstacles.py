"""Tests that are about one engine on hosts that do not have it."""

from __future__ import annotations

import pytest
import trio

from boxlite.vmm.engines import krun_obstacle
from boxlite.vmm.facts import gather_facts
from vmm_ffi.spec import VmmKind


def skip_without(kind: VmmKind) -> None:
    """For fixtures: skips tests of libkrun on a host that cannot run it, as the lab can. QEMU runs everywhere."""
    if kind is VmmKind.KRUN:
        obstacle = krun_obstacle(trio.run(gather_facts))
        if obstacle is not None:
            pytest.skip(f"libkrun cannot run machines here ({obstacle}): run `make lab`")
