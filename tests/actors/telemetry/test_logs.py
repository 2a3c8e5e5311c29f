"""Structured logs, by either library: the same records."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import structlog
import trio.testing

from actors import ActorDied, ChildSpec, Message, open_supervisor
from actors.telemetry.logs import Logs
from tests.actors.toys import Add, Boom, Counter, Raise, settle, temporary


@attrs.frozen
class Login(Message[None]):
    password: str


Records = list[tuple[str, str, dict[str, Any]]]
FIELDS = ("actor", "message_type", "asked", "seconds", "error")


def by_logging(records: Records) -> Logs:
    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fields = {name: vars(record)[name] for name in FIELDS if name in vars(record)}
            records.append((record.levelname.lower(), record.getMessage(), fields))

    logger = logging.Logger("telemetry", level=logging.DEBUG)
    logger.addHandler(Collect())
    return Logs.to_logging(logger)


def by_structlog(records: Records) -> Logs:
    def collect(logger: object, method: str, event: Any) -> Any:
        records.append((method, event.pop("event"), dict(event)))
        raise structlog.DropEvent

    wrapper = structlog.make_filtering_bound_logger(logging.DEBUG)
    return Logs.to_structlog(structlog.wrap_logger(None, processors=[collect], wrapper_class=wrapper))


@pytest.mark.parametrize("make", [by_logging, by_structlog])
async def test_messages_and_lives_are_logged_with_their_fields(
    make: Callable[[Records], Logs], autojump_clock: trio.testing.MockClock
) -> None:
    records: Records = []
    async with open_supervisor(instrument=make(records)) as supervisor:
        ref = await supervisor.start_child(temporary("a"))
        await ref.ask(Add())
        await ref.tell(Add())
        await trio.sleep(2)
        with pytest.raises(ActorDied):
            await ref.ask(Raise(Boom("bang")))
        await settle()
    assert records == [
        ("info", "life began", {"actor": "a"}),
        ("debug", "message handled", {"actor": "a", "message_type": "Add", "asked": True, "seconds": 0}),
        ("debug", "message handled", {"actor": "a", "message_type": "Add", "asked": False, "seconds": 0}),
        (
            "debug",
            "message handled",
            {"actor": "a", "message_type": "Raise", "asked": True, "seconds": 0, "error": "Boom('bang')"},
        ),
        ("info", "life ended", {"actor": "a", "seconds": 2, "error": "Boom('bang')"}),
    ]


async def test_what_a_message_contains_is_not_logged() -> None:
    class Gate(Counter):
        async def handle(self, message: Message[Any]) -> Any:
            return None

    records: Records = []
    async with open_supervisor(instrument=by_logging(records)) as supervisor:
        ref = await supervisor.start_child(ChildSpec("gate", Gate))
        await ref.ask(Login("hunter2"))
    assert len(records) == 3
    assert "hunter2" not in str(records)
