"""How machines are saved and restored: one function a law, all over one template, since a boot takes seconds."""

from __future__ import annotations

import pytest
import trio

from boxlite.errors import GuestRefused
from boxlite.portal.interface import CreditGate
from boxlite.vmm.engine import Engine, Snapshot
from boxlite.vmm.process import VmExit
from tests.testing.conformance.subject import (
    NOW_NS,
    PATIENCE,
    TEMPLATE_ID,
    Guest,
    Subject,
    Template,
    TemplateBehaviour,
    Transcript,
    clone,
    command,
)

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_DAY_NS = 86_400 * 10**9


async def _make_one_of_its_own(guest: Guest, number: int) -> None:
    await guest.session.restore(
        unix_time_ns=NOW_NS + number * _DAY_NS,
        entropy=bytes([number]) * 32,
        hostname=f"clone-{number}",
        machine_id=f"{number:032x}",
    )


async def _read(guest: Guest, *paths: str) -> list[str]:
    return (await guest.run("cat", *paths)).stdout.decode().splitlines()


async def clones_are_strangers_to_each_other(subject: Subject, engine: Engine, template: Template) -> None:
    """Two at once, with names and a time of their own, and with random numbers that nobody else has."""
    seen: list[str] = []
    async with clone(subject, engine, template) as first, clone(subject, engine, template) as second:
        for number, guest in enumerate((first, second), start=1):
            with trio.fail_after(PATIENCE):
                await _make_one_of_its_own(guest, number)
                names = await _read(guest, "/etc/hostname", "/etc/machine-id")
                assert names == [f"clone-{number}", f"{number:032x}"]
                seen += await _read(guest, _BOOT_ID, *["/proc/sys/kernel/random/uuid"] * 3)
                date = int((await guest.run("date", "+%s")).stdout)
                assert 0 <= date - (NOW_NS + number * _DAY_NS) // 10**9 <= 4 * PATIENCE
                # It is made up once.
                assert await _read(guest, _BOOT_ID) == [seen[-4]]
    assert len(seen) == len(set(seen)) == 8
    assert TEMPLATE_ID not in seen


async def a_clone_takes_no_command_before_it_is_one_of_its_own(
    subject: Subject, engine: Engine, template: Template
) -> None:
    async with clone(subject, engine, template) as guest:
        with trio.fail_after(PATIENCE):
            assert (await guest.session.ping(b"x")).payload == b"x"
            with pytest.raises(GuestRefused, match=r"Guest\.Restore comes first"):
                await guest.session.execute(command("true"), Transcript().take, CreditGate())
            for call in (guest.session.freeze, guest.session.executions):
                with pytest.raises(GuestRefused):
                    await call()
            with pytest.raises(GuestRefused):
                await guest.session.restore(unix_time_ns=1, entropy=bytes(31), hostname="x", machine_id="")
            await _make_one_of_its_own(guest, 1)
            assert (await guest.run("echo", "runs")).stdout == b"runs\n"
            for call in (guest.session.freeze, lambda: _make_one_of_its_own(guest, 2)):
                with pytest.raises(GuestRefused):
                    await call()
            # The connection comes back, as to any machine.
            guest.session.close()
            guest.session = await guest.vm.connect()
            assert await _read(guest, "/etc/hostname") == ["clone-1"]
            await guest.session.shutdown(1.0)
            assert await guest.vm.wait() == VmExit(code=0)


async def a_detached_clone_lives_on(subject: Subject, engine: Engine, template: Template) -> None:
    directory = subject.make_directory()
    async with clone(subject, engine, template, detached=True, directory=directory) as guest:
        with trio.fail_after(PATIENCE):
            await _make_one_of_its_own(guest, 3)
        guest.vm.release()
        record = guest.vm.record
    async with engine.adopt(record, directory=directory) as vm:
        with trio.fail_after(PATIENCE):
            again = Guest(engine, vm, await vm.connect())
            assert await _read(again, "/etc/hostname") == ["clone-3"]
    assert vm.exit == VmExit(signal=9)


async def a_state_that_is_missing_is_an_error_and_leaves_the_template_alone(
    subject: Subject, engine: Engine, template: Template
) -> None:
    missing = Snapshot(template.snapshot.memory, subject.make_paths().state)
    with trio.fail_after(PATIENCE), pytest.raises(OSError, match="state"):
        async with clone(subject, engine, Template(template.spec, missing)):
            raise AssertionError("it was restored")
    async with clone(subject, engine, template) as guest:
        await _make_one_of_its_own(guest, 4)


CLONES: tuple[TemplateBehaviour, ...] = (
    clones_are_strangers_to_each_other,
    a_clone_takes_no_command_before_it_is_one_of_its_own,
    a_detached_clone_lives_on,
    a_state_that_is_missing_is_an_error_and_leaves_the_template_alone,
)


async def what_was_not_saved_leaves_nothing(subject: Subject, engine: Engine) -> None:
    """Neither its memory, when its block is left; and one without a file for it cannot be saved."""
    paths, spec = subject.make_paths(), subject.make_spec()
    async with engine.launch(spec, directory=subject.make_directory(), detached=False, memory=paths.memory):
        assert subject.exists(paths.memory)
    assert not subject.exists(paths.memory)
    async with engine.launch(spec, directory=subject.make_directory(), detached=False) as vm:
        with pytest.raises(ValueError, match="cannot be saved"):
            await vm.save(paths.state)
    assert not subject.exists(paths.state)


async def a_damaged_snapshot_is_an_error(subject: Subject, engine: Engine, template: Template) -> None:
    """Of the state or of the memory; the machine ends, and the template has to be thrown away."""
    for path in (template.snapshot.state, template.snapshot.memory):
        subject.damage(path)
        with trio.fail_after(PATIENCE), pytest.raises(OSError, match=r"cannot be restored|damaged"):
            async with clone(subject, engine, template):
                raise AssertionError("it was restored")
