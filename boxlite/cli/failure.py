"""What boxlite says, and with which status it ends, when not the command in the box failed but boxlite itself."""

from __future__ import annotations

import json
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from boxlite.errors import BoxliteError
from boxlite.printable import printable

FAILURE = 125
"""The status of boxlite's own errors, so that they are told from the command's; `docker run` uses the same."""

BROKEN_PIPE = 128 + signal.SIGPIPE
"""The status where nobody reads the output any more, as that of a program in a shell's pipeline."""


class Interrupted(Exception):
    """A signal told boxlite to give up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def report(error: BaseException, *, debug: bool) -> int:
    """Tells on stderr what went wrong, with a traceback where `debug` asks for it or the error is a bug of boxlite.

    Gives the status to end with.
    """
    causes = plain_errors(error)
    status = status_of(causes)
    if status == FAILURE:
        if debug or any(_is_bug(cause) for cause in causes):
            told = "".join(traceback.format_exception(error))
            click.echo(printable(told.encode(errors="backslashreplace")), err=True, nl=False)
        for message in dict.fromkeys(describe(cause) for cause in causes):
            complain(message)
    return status


@contextmanager
def errors_in_json(as_json: bool) -> Iterator[None]:
    """With `as_json`, what the block raises is told on stdout as one JSON object, before it goes its way."""
    try:
        yield
    except Exception as error:
        if as_json:
            causes = plain_errors(error)
            click.echo(json.dumps(describe_failure(status_of(causes), causes)))
        raise


def describe_failure(status: int, causes: tuple[BaseException, ...]) -> dict[str, Any]:
    """A command that could not be run to its end."""
    return {
        "exit_code": status,
        "errors": [{"type": type(cause).__name__, "message": describe(cause)} for cause in causes],
    }


def status_of(causes: Sequence[BaseException]) -> int:
    """The status to end with: that of a signal where one was the cause, else `FAILURE`."""
    for cause in causes:
        if isinstance(cause, Interrupted):
            return 128 + cause.number
        if isinstance(cause, KeyboardInterrupt):
            return 128 + signal.SIGINT
    if all(isinstance(cause, BrokenPipeError) for cause in causes):
        return BROKEN_PIPE
    return FAILURE


def complain(message: str) -> None:
    """Prints one message on stderr, red where that is a terminal."""
    # It may quote the guest, whose text must not reach a terminal as it is.
    text = printable(message.encode(errors="backslashreplace"))
    click.secho(f"boxlite: {text}", fg="red", err=True)


def describe(error: BaseException) -> str:
    """What happened, in words for a person."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    return f"this is a bug in boxlite: {type(error).__name__}: {error}" if _is_bug(error) else str(error)


def plain_errors(error: BaseException) -> tuple[BaseException, ...]:
    """The errors in a group, however deep; a plain error alone."""
    return tuple(_leaves(error))


def _is_bug(error: BaseException) -> bool:
    return not isinstance(error, BoxliteError | OSError | Interrupted | click.ClickException)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
