"""Commands and their ends as they travel: between what applications see and the portal's messages. Pure."""

from __future__ import annotations

from boxlite.boxes.command import Command
from boxlite.boxes.outcome import Exited, Outcome, Signalled, TimedOut
from boxlite.errors import (
    ArgumentsTooLong,
    BoxliteError,
    CommandNotStarted,
    InvalidCommand,
    UserNotFound,
    WorkdirNotFound,
)
from boxlite.portal.checks import spoken
from proto.boxlite import v1


def start_of(
    execution_id: str, command: Command, *, stdin: bool, stop_group_on_exit: bool, whole_input: bytes | None = None
) -> v1.ExecStart:
    """The request that starts a command, without credit. With `whole_input` that is all of its standard input."""
    return v1.ExecStart(
        execution_id=execution_id,
        argv=list(command.argv),
        env=[name + b"=" + value for name, value in command.env.items()],
        cwd=command.cwd or b"/",
        user=command.user or "",
        tty=None if command.tty is None else v1.TtySize(rows=command.tty.rows, columns=command.tty.columns),
        timeout_ms=0 if command.timeout is None else max(1, round(command.timeout * 1000)),
        stdin=v1.StdinMode.PIPE if stdin or whole_input is not None else v1.StdinMode.NULL,
        input=whole_input or b"",
        input_eof=whole_input is not None,
        merge_stderr=command.merge_stderr,
        stop_group_on_exit=stop_group_on_exit,
    )


def outcome_of(exited: v1.Exited) -> Outcome:
    """How a command ended."""
    if exited.timed_out:
        return TimedOut()
    if exited.signal:
        return Signalled(exited.signal)
    return Exited(exited.exit_code, spoken(exited.message))


def start_error(box: str, failed: v1.StartFailed) -> BoxliteError:
    """Why a command could not be started."""
    message = spoken(failed.message)
    match failed.reason:
        case v1.StartFailure.WORKDIR:
            return WorkdirNotFound(box, message)
        case v1.StartFailure.USER:
            return UserNotFound(box, message)
        case v1.StartFailure.TOO_LONG:
            return ArgumentsTooLong(f"box {box}: {message}")
        case v1.StartFailure.INVALID:
            return InvalidCommand(f"box {box}: {message}")
        case _:
            return CommandNotStarted(box, message)
