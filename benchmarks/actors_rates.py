"""Messages a second: this kernel, and Trio by hand with the same promises of room and reply."""

from __future__ import annotations

import time
from typing import Any

import attrs
import trio

from actors import Actor, ChildSpec, EventKind, Message, open_supervisor

ROOM = 64
"""Places in the mailbox and in the channel."""


@attrs.frozen
class Add(Message[int]):
    amount: int


@attrs.frozen
class Crash(Message[None]):
    pass


class Counter(Actor):
    """Answers with its count."""

    def __init__(self) -> None:
        self.count = 0

    async def handle(self, message: Message[Any]) -> Any:
        match message:
            case Add(amount):
                self.count += amount
                return self.count
            case Crash():
                raise ValueError("on purpose")


@attrs.define
class Request:
    """An ask by hand."""

    message: Add
    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: int | None = None


def tell_rate(messages: int) -> float:
    """Tells a second, from one task to one actor."""

    async def main() -> float:
        async with open_supervisor() as supervisor:
            ref = await supervisor.start_child(ChildSpec("counter", Counter, mailbox=ROOM))
            started = time.perf_counter()
            for _ in range(messages):
                await ref.tell(Add(1))
            assert await ref.ask(Add(0)) == messages
            return messages / (time.perf_counter() - started)

    return trio.run(main)


def ask_rate(messages: int) -> float:
    """Asks a second, from one task to one actor."""

    async def main() -> float:
        async with open_supervisor() as supervisor:
            ref = await supervisor.start_child(ChildSpec("counter", Counter, mailbox=ROOM))
            started = time.perf_counter()
            for _ in range(messages):
                await ref.ask(Add(1))
            return messages / (time.perf_counter() - started)

    return trio.run(main)


def channel_tell_rate(messages: int) -> float:
    """The same through a memory channel to a task that counts."""

    async def serve(receive: trio.MemoryReceiveChannel[Add]) -> None:
        count = 0
        with receive:
            async for message in receive:
                match message:
                    case Add(amount):
                        count += amount
        assert count == messages

    async def main() -> float:
        send, receive = trio.open_memory_channel[Add](ROOM)
        started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, receive)
            with send:
                for _ in range(messages):
                    await send.send(Add(1))
        return messages / (time.perf_counter() - started)

    return trio.run(main)


def channel_ask_rate(messages: int) -> float:
    """The same through a memory channel, with an event for each answer."""

    async def serve(receive: trio.MemoryReceiveChannel[Request]) -> None:
        count = 0
        with receive:
            async for request in receive:
                match request.message:
                    case Add(amount):
                        count += amount
                request.answer = count
                request.answered.set()

    async def main() -> float:
        send, receive = trio.open_memory_channel[Request](ROOM)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, receive)
            started = time.perf_counter()
            with send:
                for _ in range(messages):
                    request = Request(Add(1))
                    await send.send(request)
                    await request.answered.wait()
            return messages / (time.perf_counter() - started)

    return trio.run(main)


def restart_rate(restarts: int) -> float:
    """Crashes and new lives a second, each awaited."""

    async def main() -> float:
        lives = trio.open_memory_channel[None](1)

        def on_event(event: Any) -> None:
            if event.kind is EventKind.STARTED:
                lives[0].send_nowait(None)

        async with open_supervisor(intensity=restarts, on_event=on_event) as supervisor:
            ref = await supervisor.start_child(ChildSpec("counter", Counter))
            await lives[1].receive()
            started = time.perf_counter()
            for _ in range(restarts):
                await ref.tell(Crash())
                await lives[1].receive()
            return restarts / (time.perf_counter() - started)

    return trio.run(main)


def task_restart_rate(restarts: int) -> float:
    """The same by hand: a loop that runs a task in a nursery of its own, and runs it again when that has raised."""

    async def serve(receive: trio.MemoryReceiveChannel[Crash], *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await receive.receive()
        raise ValueError("on purpose")

    async def main() -> float:
        send, receive = trio.open_memory_channel[Crash](ROOM)
        started = time.perf_counter()
        for _ in range(restarts):
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(serve, receive)
                    await send.send(Crash())
            except* ValueError:
                pass
        return restarts / (time.perf_counter() - started)

    return trio.run(main)
