"""Structured logs: one record for each message that is handled, and two for each life."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, final

import trio

from actors.instrument import Done
from actors.messages import Message
from actors.ref import ActorRef

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class _Write(Protocol):
    def __call__(self, level: int, event: str, fields: dict[str, Any]) -> None: ...


@final
class Logs:
    """An `Instrument`; `to_logging` and `to_structlog` make it.

    Messages are logged at level DEBUG and lives at INFO. Each record has the field `actor`. Those of messages have
    `message_type`, `asked`, and `seconds` by Trio's clock; where there was an error they have `error`, its `repr`.
    What a message contains is never logged.
    """

    def __init__(self, write: _Write) -> None:
        self._write = write

    @classmethod
    def to_logging(cls, logger: logging.Logger) -> Logs:
        """Log by the standard library; the fields are attributes of the record (`extra`)."""
        return cls(lambda level, event, fields: logger.log(level, event, extra=fields))

    @classmethod
    def to_structlog(cls, logger: FilteringBoundLogger) -> Logs:
        """Log by structlog; the fields are its key-value pairs."""
        return cls(lambda level, event, fields: logger.log(level, event, **fields))

    def on_send(self, ref: ActorRef, message: Message[Any], *, asks: bool) -> object:
        """See `Instrument`."""
        return None

    def on_handle(self, ref: ActorRef, message: Message[Any], sent: object, *, asks: bool) -> Done:
        """See `Instrument`."""
        fields = {"actor": ref.name, "message_type": type(message).__name__, "asked": asks}
        return self._timed(logging.DEBUG, "message handled", fields)

    def on_start(self, ref: ActorRef) -> Done:
        """See `Instrument`."""
        self._write(logging.INFO, "life began", {"actor": ref.name})
        return self._timed(logging.INFO, "life ended", {"actor": ref.name})

    def _timed(self, level: int, event: str, fields: dict[str, Any]) -> Done:
        begun = trio.current_time()

        def done(error: BaseException | None) -> None:
            fields["seconds"] = trio.current_time() - begun
            if error is not None:
                fields["error"] = repr(error)
            self._write(level, event, fields)

        return done
