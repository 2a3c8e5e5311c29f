"""What a runtime does with the boxes of an earlier one: decisions for every state, and their execution on a model."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock

from boxlite.boxes.changes import BoxChange, Change
from boxlite.boxes.lifecycle import BoxEvent, BoxState
from boxlite.errors import IllegalTransition
from boxlite.runtime.recovery import Decision, decide, ended_with_runtime, starts_again
from boxlite.testing.host import SimulatedHost, open_host
from boxlite.testing.runtime import open_simulated_runtime
from tests.store.boxes import VM, make_box

IMAGE = "builtin/python"


@pytest.mark.parametrize("state", BoxState)
@pytest.mark.parametrize("vm", [None, VM], ids=["no machine", "kept machine"])
def test_every_state_has_its_decision(state: BoxState, vm: object) -> None:
    """What ran and was not kept has ended; what was kept is taken over; nothing else is touched."""
    expected = {
        BoxState.CONFIGURED: Decision.KEEP,
        BoxState.STARTING: Decision.PUT_DOWN,
        BoxState.RUNNING: Decision.PUT_DOWN if vm is None else Decision.ADOPT,
        BoxState.STOPPING: Decision.PUT_DOWN,
        BoxState.PAUSED: Decision.PUT_DOWN if vm is None else Decision.ADOPT,
        BoxState.STOPPED: Decision.KEEP,
        BoxState.FAILED: Decision.KEEP,
        BoxState.REMOVED: Decision.DISCARD,
    }[state]
    box = make_box(1, state=state, vm=None if vm is None else VM)
    assert decide(box) is expected
    if expected is Decision.PUT_DOWN:
        ended = ended_with_runtime(box, 5.0)
        assert (ended.state, ended.vm, ended.changed_at) == (BoxState.STOPPED, None, 5.0)


@pytest.mark.parametrize("state", BoxState)
def test_what_was_of_no_use_beyond_its_runtime_is_removed_in_every_state(state: BoxState) -> None:
    assert decide(make_box(1, state=state, auto_remove=True)) is Decision.DISCARD


@pytest.mark.parametrize("state", BoxState)
@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("policy", ["no", "on-failure", "unless-stopped", "always"])
def test_a_policy_starts_a_box_at_opening_as_docker_does(state: BoxState, by_hand: bool, policy: str) -> None:
    ended = state in (BoxState.STOPPED, BoxState.FAILED)
    expected = ended and (policy == "always" or (policy == "unless-stopped" and not by_hand))
    assert starts_again(make_box(1, state=state, restart=policy, stopped_by_hand=by_hand)) is expected


async def states(host: SimulatedHost) -> dict[str, BoxState]:
    return {box.name: box.state for box in host.store.load()}


async def crash_in_states(host: SimulatedHost) -> None:
    """Leaves one box in each of some states, and ends its runtime as SIGKILL would."""
    async with open_simulated_runtime(host=host) as runtime:
        await runtime.create(IMAGE, name="configured")
        for name in ("running", "stopped"):
            await (await runtime.create(IMAGE, name=name)).start()
        await (await runtime.get("stopped")).stop()
        for name in ("kept", "kept-paused", "kept-dead"):
            await (await runtime.create(IMAGE, name=name, detached=True)).start()
        await (await runtime.get("kept-paused")).pause()
        host.crash_runtime()
        await trio.sleep_forever()


async def test_after_a_crash_the_next_runtime_sees_the_truth(autojump_clock: MockClock) -> None:
    """Detached boxes still run, or say how they died; the others have stopped, with the cause."""
    changes: list[Change] = []
    async with open_host() as host:
        await crash_in_states(host)
        host.kill_machine("kept-dead")
        await trio.sleep(5)
        async with open_simulated_runtime(host=host, announce=changes.append) as runtime:
            with trio.fail_after(60):
                while (await (await runtime.get("kept-dead")).status()).state is BoxState.RUNNING:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            found = {box.name: (await box.status()).state for box in await runtime.list()}
            assert found == {
                "configured": BoxState.CONFIGURED,
                "running": BoxState.STOPPED,
                "stopped": BoxState.STOPPED,
                "kept": BoxState.RUNNING,
                "kept-paused": BoxState.PAUSED,
                "kept-dead": BoxState.FAILED,
            }
            assert found == await states(host)
            assert "runtime" in (await (await runtime.get("running")).status()).cause
            assert (await (await runtime.get("kept")).run(["true"])).stdout == b""
    ended = [c for c in changes if isinstance(c, BoxChange) and c.event is BoxEvent.RUNTIME_ENDED]
    assert [c.box for c in ended][:1] == ["running"]


async def test_boxes_whose_policy_says_so_start_when_the_next_runtime_opens(autojump_clock: MockClock) -> None:
    async with open_host() as host:
        async with open_simulated_runtime(host=host) as runtime:
            for name, policy, stop in (
                ("always", "always", True),
                ("unless", "unless-stopped", False),
                ("unless-stopped-by-hand", "unless-stopped", True),
                ("no", "no", False),
            ):
                box = await runtime.create(IMAGE, name=name, restart=policy)
                await box.start()
                if stop:
                    await box.stop()
            await runtime.create(IMAGE, name="never-ran", restart="always")
        async with open_simulated_runtime(host=host) as runtime:
            await trio.sleep(60)
            running = {box.name for box in await runtime.list(state=BoxState.RUNNING)}
            assert running == {"always", "unless"}
            assert {box.name for box in await runtime.list(state=BoxState.CONFIGURED)} == {"never-ran"}


async def test_without_autostart_boxes_stay_at_rest_whatever_their_policy(autojump_clock: MockClock) -> None:
    """And the next runtime with it starts them: nothing was decided for good."""
    async with open_host() as host:
        async with open_simulated_runtime(host=host) as runtime:
            await (await runtime.create(IMAGE, name="always", restart="always")).start()
        async with open_simulated_runtime(host=host, autostart=False) as runtime:
            await trio.sleep(60)
            assert not await runtime.list(state=BoxState.RUNNING)
        async with open_simulated_runtime(host=host) as runtime:
            await trio.sleep(60)
            assert [box.name for box in await runtime.list(state=BoxState.RUNNING)] == ["always"]


async def test_a_removal_that_was_cut_off_is_finished(autojump_clock: MockClock) -> None:
    async with open_host() as host:
        async with open_simulated_runtime(host=host) as runtime:
            await runtime.create(IMAGE, name="b")
        box = host.store.load()[0]
        host.store.save(attrs.evolve(box, state=BoxState.REMOVED))
        async with open_simulated_runtime(host=host) as runtime:
            assert await runtime.list() == ()
            await runtime.create(IMAGE, name="b")
        assert [box.state for box in host.store.load()] == [BoxState.CONFIGURED]


async def test_a_box_that_cannot_be_settled_holds_up_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its end has happened, and is in memory though the disk is full; it is logged."""
    async with open_host() as host:
        await crash_in_states(host)
        host.disk.fill(30)
        async with open_simulated_runtime(host=host) as runtime:
            assert (await (await runtime.get("running")).status()).state is BoxState.STOPPED
            assert (await (await runtime.get("configured")).status()).state is BoxState.CONFIGURED
    assert any("running" in record.getMessage() for record in caplog.records)


async def test_a_kept_box_that_died_unseen_can_be_removed_at_once(autojump_clock: MockClock) -> None:
    """What was stored last says that it runs; its adoption, which has just begun, finds that it does not."""
    async with open_host() as host:
        await crash_in_states(host)
        host.kill_machine("kept-dead")
        await trio.sleep(5)
        async with open_simulated_runtime(host=host) as runtime:
            await (await runtime.get("kept-dead")).remove()
            for name in ("kept", "kept-paused"):
                with pytest.raises(IllegalTransition):
                    await (await runtime.get(name)).remove()
        assert {"kept", "kept-paused"} <= set(await states(host))
        assert "kept-dead" not in await states(host)
