"""The simulated engine behaves as the behaviours of this folder say, in virtual time and with any delays."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.testing.conformance.clones import (
    CLONES,
    a_damaged_snapshot_is_an_error,
    what_was_not_saved_leaves_nothing,
)
from tests.testing.conformance.commands import COMMANDS
from tests.testing.conformance.lives import LIVES
from tests.testing.conformance.model import open_model
from tests.testing.conformance.subject import Behaviour, EngineBehaviour, launched, make_template


@pytest.mark.parametrize("jitter", [0.0, 0.05])
@pytest.mark.parametrize("behaviour", COMMANDS, ids=lambda behaviour: behaviour.__name__)
async def test_command(behaviour: Behaviour, jitter: float, autojump_clock: MockClock) -> None:
    async with open_model(jitter=jitter) as subject, launched(subject) as guest:
        await behaviour(guest)


@pytest.mark.parametrize("jitter", [0.0, 0.05])
@pytest.mark.parametrize("behaviour", LIVES, ids=lambda behaviour: behaviour.__name__)
async def test_life(behaviour: EngineBehaviour, jitter: float, autojump_clock: MockClock) -> None:
    async with open_model(jitter=jitter) as subject:
        await behaviour(subject)


@pytest.mark.parametrize("jitter", [0.0, 0.05])
async def test_clones(jitter: float, autojump_clock: MockClock) -> None:
    async with open_model(jitter=jitter) as subject, subject.open_engine() as engine:
        await what_was_not_saved_leaves_nothing(subject, engine)
        template = await make_template(subject, engine)
        for behaviour in CLONES:
            await behaviour(subject, engine, template)
        await a_damaged_snapshot_is_an_error(subject, engine, template)
