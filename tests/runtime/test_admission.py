"""The budget of a runtime: never exceeded, first come, first served, and nothing of it is ever lost."""

from __future__ import annotations

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from boxlite.errors import OverBudget
from boxlite.runtime.admission import Admission, Lease, Need


@attrs.frozen
class Customer:
    """Comes, waits at most `patience` seconds, and gives its share back after `stay` seconds."""

    arrival: int
    memory_mib: int
    cpus: int
    patience: int
    stay: int

    @property
    def need(self) -> Need:
        return Need(self.memory_mib, self.cpus)


MEMORY, CPUS = 10, 4

customers = st.lists(
    st.builds(
        Customer,
        st.integers(0, 9),
        st.integers(1, MEMORY),
        st.integers(1, CPUS),
        st.sampled_from([0, 1, 5, 500]),
        st.integers(0, 9),
    ),
    max_size=12,
)


@settings(max_examples=50)
@given(customers, st.random_module())
def test_any_customers_share_a_budget(come: list[Customer], schedule: object) -> None:
    """Never above the budget, and in the end everything is given back, whoever lost patience and when."""
    admission = Admission(memory_mib=MEMORY, cpus=CPUS)
    served: list[Customer] = []

    async def live(customer: Customer) -> None:
        await trio.sleep(customer.arrival)
        lease: Lease | None = None
        with trio.move_on_after(customer.patience):
            lease = await admission.admit("box", customer.need, wait=True)
        assert admission.used.memory_mib <= MEMORY
        assert admission.used.cpus <= CPUS
        if lease is not None:
            served.append(customer)
            await trio.sleep(customer.stay)
            lease.release()

    async def main() -> None:
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                for customer in come:
                    nursery.start_soon(live, customer)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert admission.used == Need(0, 0)
    assert admission.waiting == 0
    # Whoever waits longer than all others may stay together is served.
    assert {one for one in come if one.patience > 9 * len(come) + 9} <= set(served)


async def test_a_small_box_does_not_overtake_a_large_one(autojump_clock: MockClock) -> None:
    """So a large one never starves, whatever small ones come."""
    admission = Admission(memory_mib=10)
    leases = [await admission.admit("small", Need(1, 1), wait=True) for _ in range(10)]
    order: list[str] = []

    async def wait(name: str, need: Need) -> None:
        await admission.admit(name, need, wait=True)
        order.append(name)

    async with trio.open_nursery() as nursery:
        for name, need in (("large", Need(10, 1)), ("small", Need(1, 1))):
            nursery.start_soon(wait, name, need)
            await wait_all_tasks_blocked()
        for lease in leases:
            assert order == []
            lease.release()
            await wait_all_tasks_blocked()
        assert order == ["large"]
        admission._give_back(Need(10, 1))
    assert order == ["large", "small"]


async def test_without_waiting_a_full_budget_refuses_and_says_what_is_in_use() -> None:
    admission = Admission(memory_mib=512, cpus=2)
    lease = await admission.admit("one", Need(512, 1), wait=False)
    with pytest.raises(OverBudget, match=r"box two asks for 256 MiB and 1 .* 512 MiB and 1 processors are in use"):
        await admission.admit("two", Need(256, 1), wait=False)
    lease.release()
    await admission.admit("two", Need(256, 1), wait=False)


@pytest.mark.parametrize("need", [Need(513, 1), Need(1, 3)])
@pytest.mark.parametrize("wait", [True, False])
async def test_what_never_fits_is_refused_at_once(need: Need, wait: bool) -> None:
    """Also where others wait: it would hold up all who come after it for ever."""
    admission = Admission(memory_mib=512, cpus=2)
    with pytest.raises(OverBudget, match="in all"):
        await admission.admit("huge", need, wait=wait)


async def test_one_who_does_not_wait_does_not_overtake_those_who_do() -> None:
    admission = Admission(memory_mib=10)
    lease = await admission.admit("first", Need(5, 1), wait=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: admission.admit("large", Need(10, 1), wait=True))
        await wait_all_tasks_blocked()
        with pytest.raises(OverBudget, match="1 boxes wait"):
            await admission.admit("small", Need(1, 1), wait=False)
        lease.release()


async def test_the_first_in_the_queue_who_leaves_lets_the_next_one_in() -> None:
    admission = Admission(memory_mib=10)
    await admission.admit("inside", Need(5, 1), wait=True)
    got: list[Lease] = []
    scope = trio.CancelScope()

    async def large() -> None:
        with scope:
            await admission.admit("large", Need(10, 1), wait=True)

    async def small() -> None:
        got.append(await admission.admit("small", Need(5, 1), wait=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(large)
        await wait_all_tasks_blocked()
        nursery.start_soon(small)
        await wait_all_tasks_blocked()
        assert got == []
        scope.cancel()
    assert len(got) == 1


async def test_a_share_that_comes_in_the_moment_of_the_cancellation_is_given_back() -> None:
    admission = Admission(memory_mib=10)
    lease = await admission.admit("inside", Need(10, 1), wait=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: admission.admit("waiting", Need(10, 1), wait=True))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        lease.release()
    assert admission.used == Need(0, 0)
    with trio.CancelScope() as scope:
        scope.cancel()
        await admission.admit("late", Need(1, 1), wait=True)
    assert admission.used == Need(0, 0)


async def test_a_lease_is_released_once() -> None:
    admission = Admission(memory_mib=10)
    one, two = [await admission.admit("box", Need(5, 1), wait=True) for _ in range(2)]
    one.release()
    one.release()
    assert admission.used == Need(5, 1)
    two.release()
    assert admission.used == Need(0, 0)


async def test_a_machine_that_runs_already_counts_whatever_the_budget_says() -> None:
    admission = Admission(memory_mib=10)
    lease = admission.claim(Need(20, 1))
    with pytest.raises(OverBudget):
        await admission.admit("box", Need(1, 1), wait=False)
    lease.release()
    await admission.admit("box", Need(1, 1), wait=False)


async def test_without_a_budget_everything_is_admitted() -> None:
    admission = Admission()
    for _ in range(100):
        await admission.admit("box", Need(1 << 20, 64), wait=False)


async def test_whoever_watches_the_budget_hears_when_somebody_waits_leaves_or_gives_back(
    autojump_clock: MockClock,
) -> None:
    admission = Admission(memory_mib=4)
    quiet = admission.changed
    lease = await admission.admit("first", Need(4, 1), wait=False)
    with pytest.raises(OverBudget):
        await admission.admit("second", Need(1, 1), wait=False)
    assert not quiet.is_set()
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                await admission.admit("second", Need(1, 1), wait=True)

            nursery.start_soon(wait)
            await quiet.wait()
            assert admission.waiting == 1
            left = admission.changed
            await trio.sleep_forever()
    assert left.is_set()
    given_back = admission.changed
    assert not given_back.is_set()
    lease.release()
    assert given_back.is_set()


def test_what_no_budget_could_hold_can_be_told_before_it_is_asked_for() -> None:
    admission = Admission(memory_mib=4, cpus=2)
    admission.check("fits", Need(4, 2))
    for need in (Need(5, 1), Need(1, 3)):
        with pytest.raises(OverBudget, match=r"box large asks for .* in all"):
            admission.check("large", need)
