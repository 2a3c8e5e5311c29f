from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from boxlite.boxes.execution import Execution
from boxlite.cli.failure import Interrupted
from boxlite.cli.signals import SignalRelay, relay_signals


def execution_that_notes(noted: list[int], monkeypatch: pytest.MonkeyPatch) -> Execution:
    """A command outside any machine; all that a relay does with it is to signal it."""

    async def kill(self: Execution, number: int) -> None:
        noted.append(number)

    monkeypatch.setattr(Execution, "kill", kill)
    execution: Any = object.__new__(Execution)
    return execution  # type: ignore[no-any-return]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


async def relayed(block: Callable[[SignalRelay], Awaitable[None]]) -> None:
    async with relay_signals() as relay:
        await block(relay)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
async def test_a_signal_while_there_is_no_command_yet_ends_the_block(number: int) -> None:
    async def block(relay: SignalRelay) -> None:
        send(number)
        await trio.sleep_forever()

    with pytest.raises(Interrupted) as caught:
        await relayed(block)
    assert caught.value.number == number


async def test_the_first_signal_is_the_commands_and_the_second_ends_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[int] = []

    async def block(relay: SignalRelay) -> None:
        relay.forward_to(execution_that_notes(noted, monkeypatch))
        send(signal.SIGINT)
        while not noted:
            await trio.lowlevel.checkpoint()
        send(signal.SIGTERM)
        await trio.sleep_forever()

    with pytest.raises(Interrupted) as caught:
        await relayed(block)
    assert (noted, caught.value.number) == ([signal.SIGINT], signal.SIGTERM)


async def test_a_terminal_that_hung_up_ends_the_block_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left who could send a second signal."""
    noted: list[int] = []

    async def block(relay: SignalRelay) -> None:
        relay.forward_to(execution_that_notes(noted, monkeypatch))
        send(signal.SIGHUP)
        await trio.sleep_forever()

    with pytest.raises(Interrupted):
        await relayed(block)
    assert noted == []


async def test_errors_that_follow_from_the_signal_do_not_hide_it() -> None:
    async def block(relay: SignalRelay) -> None:
        send(signal.SIGINT)
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("a child process was killed by the terminal's ^C")

    with pytest.raises(Interrupted):
        await relayed(block)


async def test_an_error_of_the_block_without_a_signal_comes_out() -> None:
    async def block(relay: SignalRelay) -> None:
        raise OSError("plain")

    with pytest.raises(ExceptionGroup) as caught:
        await relayed(block)
    assert caught.group_contains(OSError, match="plain")


def test_what_nohup_ignores_stays_ignored() -> None:
    code = """
import os, signal, trio
from boxlite.cli.signals import relay_signals
async def main():
    async with relay_signals():
        os.kill(os.getpid(), signal.SIGHUP)
        await trio.sleep(0.05)
        print("still here")
trio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN){code}"],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b"still here\n"
