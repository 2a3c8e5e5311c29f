"""The same counter on other actor libraries, from the extra `bench`: pykka (threads) and xoscar (asyncio)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pykka
import xoscar


class PykkaCounter(pykka.ThreadingActor):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: Any) -> int:
        self.count += message
        return self.count


def pykka_tell_rate(messages: int) -> float:
    ref = PykkaCounter.start()
    try:
        started = time.perf_counter()
        for _ in range(messages):
            ref.tell(1)
        assert ref.ask(0) == messages
        return messages / (time.perf_counter() - started)
    finally:
        ref.stop()


def pykka_ask_rate(messages: int) -> float:
    ref = PykkaCounter.start()
    try:
        started = time.perf_counter()
        for _ in range(messages):
            ref.ask(1)
        return messages / (time.perf_counter() - started)
    finally:
        ref.stop()


class XoscarCounter(xoscar.Actor):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def add(self, amount: int) -> int:
        self.count += amount
        return self.count


def xoscar_tell_rate(messages: int) -> float:
    return asyncio.run(_xoscar(messages, "tell"))


def xoscar_ask_rate(messages: int) -> float:
    return asyncio.run(_xoscar(messages, "ask"))


async def _xoscar(messages: int, how: str) -> float:
    pool = await xoscar.create_actor_pool(address="127.0.0.1", n_process=0)
    try:
        ref = await xoscar.create_actor(XoscarCounter, address=pool.external_address, uid="counter")
        started = time.perf_counter()
        if how == "tell":
            for _ in range(messages):
                await ref.add.tell(1)
            while await ref.add(0) < messages:
                pass
        else:
            for _ in range(messages):
                await ref.add(1)
        return messages / (time.perf_counter() - started)
    finally:
        await pool.stop()
