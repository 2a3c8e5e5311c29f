"""What Trio has no public way for still works on the installed Trio: a seed alone decides the order of tasks."""

from __future__ import annotations

import trio

from boxlite.testing.scheduling import run_seeded, seeded_scheduler


async def race() -> list[int]:
    order: list[int] = []

    async def run(number: int) -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(run, number)
    return order


def test_the_same_seed_gives_the_same_order() -> None:
    for seed in range(5):
        assert run_seeded(race, seed) == run_seeded(race, seed)


def test_seeds_differ() -> None:
    assert len({tuple(run_seeded(race, seed)) for seed in range(20)}) > 15


def test_the_scheduler_is_as_before_afterwards() -> None:
    state = trio._core._run._r.getstate()
    with seeded_scheduler(3):
        assert trio._core._run._r.getstate() != state
    assert trio._core._run._r.getstate() == state


def test_time_is_virtual() -> None:
    async def wait() -> float:
        began = trio.current_time()
        await trio.sleep(3600)
        return trio.current_time() - began

    assert run_seeded(wait, 0) == 3600
