"""Real machines behave as the behaviours of this folder say: the same ones that hold the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.testing.conformance.clones import (
    CLONES,
    a_damaged_snapshot_is_an_error,
    what_was_not_saved_leaves_nothing,
)
from tests.testing.conformance.commands import COMMANDS
from tests.testing.conformance.lives import LIVES
from tests.testing.conformance.local import open_local
from tests.testing.conformance.subject import PATIENCE, EngineBehaviour, launched, make_template
from tests.vmm.obstacles import skip_without
from vmm_ffi.spec import VmmKind

LIMIT = 4 * PATIENCE


@pytest.fixture(params=[VmmKind.QEMU, VmmKind.KRUN])
def kind(request: pytest.FixtureRequest) -> VmmKind:
    """Every engine that this host can have; where libkrun has no KVM, the lab is where it is tested."""
    wanted: VmmKind = request.param
    skip_without(wanted)
    return wanted


async def test_commands(kind: VmmKind, home: Path, sockets: Path, tmp_path: Path) -> None:
    """All of them in one machine, since a boot takes seconds; each failure comes out."""
    failures = []
    with trio.fail_after(LIMIT):
        async with open_local(kind, home, tmp_path, sockets) as subject, launched(subject) as guest:
            for behaviour in COMMANDS:
                try:
                    await behaviour(guest)
                except Exception as error:
                    error.add_note(f"behaviour: {behaviour.__name__}")
                    failures.append(error)
    if failures:
        raise ExceptionGroup("real machines behave otherwise", failures)


@pytest.mark.parametrize("behaviour", LIVES, ids=lambda behaviour: behaviour.__name__)
async def test_life(behaviour: EngineBehaviour, kind: VmmKind, home: Path, sockets: Path, tmp_path: Path) -> None:
    with trio.fail_after(LIMIT):
        async with open_local(kind, home, tmp_path, sockets) as subject:
            await behaviour(subject)


async def test_clones(kind: VmmKind, home: Path, sockets: Path, tmp_path: Path) -> None:
    """All of them over one template; each failure comes out."""
    failures = []
    with trio.fail_after(LIMIT):
        async with open_local(kind, home, tmp_path, sockets) as subject, subject.open_engine() as engine:
            await what_was_not_saved_leaves_nothing(subject, engine)
            template = await make_template(subject, engine)
            for behaviour in CLONES:
                try:
                    await behaviour(subject, engine, template)
                except Exception as error:
                    error.add_note(f"behaviour: {behaviour.__name__}")
                    failures.append(error)
            await a_damaged_snapshot_is_an_error(subject, engine, template)
    if failures:
        raise ExceptionGroup("real machines behave otherwise", failures)
