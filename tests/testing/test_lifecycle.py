"""The state machine that users get holds for this package itself, and takes rules of a subclass."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule, run_state_machine_as_test

from boxlite import BoxExists, BoxliteError, BoxNotFound
from boxlite.boxes.box import Box
from boxlite.testing.lifecycle import BoxLifecycle

TestBoxLifecycle = BoxLifecycle.TestCase
TestBoxLifecycle.settings = settings(
    derandomize=True,
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class Pair(BoxLifecycle):
    """A user's rule, that makes two boxes of one name."""

    tried = 0

    @rule()
    def make_a_pair(self) -> None:
        async def make() -> tuple[Box, BoxliteError]:
            first = await self.runtime.get_or_create("pair", "builtin/python")
            try:
                await self.runtime.create("builtin/python", name="pair")
            except BoxliteError as error:
                return first, error
            raise AssertionError("there are two boxes of one name")

        result = self.attempt(make)
        if isinstance(result, tuple):
            assert isinstance(result[1], BoxExists)
            Pair.tried += 1
            assert isinstance(self.on_box("no such box", Box.start), BoxNotFound)


def test_a_subclass_adds_rules_of_its_own() -> None:
    run_state_machine_as_test(
        Pair,
        settings=settings(
            derandomize=True,
            max_examples=5,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
    assert Pair.tried
