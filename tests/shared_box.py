"""A box that many tests use, since a boot in software takes seconds.

A box lives in one Trio run and every test has its own, so the shared one lives in a thread with a Trio run of its own,
and the tests that use it run there.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import attrs
import trio

import boxlite

BoxTest: TypeAlias = Callable[[boxlite.Box], Awaitable[None]]

TEST_TIMEOUT = 120.0


@attrs.frozen
class SharedBox:
    """The box and the Trio run that it lives in."""

    box: boxlite.Box
    token: trio.lowlevel.TrioToken

    def run(self, test: BoxTest) -> None:
        """Runs a test beside the box; raises what it raises."""

        async def bounded() -> None:
            with trio.fail_after(TEST_TIMEOUT):
                await test(self.box)

        trio.from_thread.run(bounded, trio_token=self.token)


def in_shared_box(test: BoxTest) -> Callable[[SharedBox], None]:
    """Makes a pytest test of an async function that takes the shared box."""

    def run(shared_box: SharedBox) -> None:
        shared_box.run(test)

    run.__name__, run.__doc__, run.__module__ = getattr(test, "__name__", "test"), test.__doc__, test.__module__
    return run


@contextmanager
def open_shared_box(home: Path) -> Iterator[SharedBox]:
    """Boots the box; leaving the block ends it."""
    ready: list[SharedBox] = []
    failures: list[BaseException] = []
    turn = threading.Event()
    scope = trio.CancelScope()

    async def live() -> None:
        with scope:
            async with (
                boxlite.open_runtime(home=home, ephemeral=True) as runtime,
                runtime.open_box("builtin/python", disk_mib=256, boot_timeout=TEST_TIMEOUT) as box,
            ):
                await box.start()
                ready.append(SharedBox(box, trio.lowlevel.current_trio_token()))
                turn.set()
                await trio.sleep_forever()

    def run() -> None:
        try:
            trio.run(live)
        except BaseException as error:
            failures.append(error)
        turn.set()

    thread = threading.Thread(target=run, name="shared box")
    thread.start()
    turn.wait()
    try:
        if failures:
            raise failures[0]
        yield ready[0]
    finally:
        if ready and thread.is_alive():
            ready[0].token.run_sync_soon(scope.cancel)
        thread.join()
    if failures:
        raise failures[0]
