from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import attrs
import pytest
import trio

from boxlite.vmm.identity import identity_of, open_process
from tests.vmm.processes import open_files


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


async def test_the_end_of_a_process_can_be_waited_for_by_any_number_of_tasks(child: subprocess.Popen[bytes]) -> None:
    before = open_files()
    identity = identity_of(child.pid)
    assert identity is not None
    handle = open_process(identity)
    assert not handle.ended()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(handle.wait_ended)
            await trio.testing.wait_all_tasks_blocked()
            handle.kill(signal.SIGTERM)
    assert handle.ended()
    handle.kill()
    handle.close()
    assert child.wait() == -signal.SIGTERM
    assert open_files() == before


async def test_another_process_of_the_same_number_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    """What the number meant has ended, whoever has it now."""
    identity = identity_of(child.pid)
    assert identity is not None
    for former in (
        attrs.evolve(identity, start_time=identity.start_time - 1),
        attrs.evolve(identity, boot_id="an earlier boot"),
    ):
        handle = open_process(former)
        assert handle.ended()
        await handle.wait_ended()
        handle.kill()
        handle.close()
    assert child.poll() is None


def test_a_number_that_nobody_has_is_a_process_that_has_ended() -> None:
    own = identity_of(os.getpid())
    assert own is not None
    assert open_process(attrs.evolve(own, pid=2**22)).ended()


@pytest.mark.parametrize("number", [-1, 0, 12345])
def test_a_signal_that_does_not_exist_harms_nothing(number: int) -> None:
    own = identity_of(os.getpid())
    assert own is not None
    handle = open_process(own)
    handle.kill(number)
    handle.close()
