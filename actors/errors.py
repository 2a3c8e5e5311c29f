"""How a tell, an ask or a supervisor can fail: one root, one class a situation."""

from __future__ import annotations

from collections.abc import Sequence


class ActorError(Exception):
    """The root: `except ActorError` catches whatever this package raises on purpose."""


# Telling and asking


class MailboxFull(ActorError):
    """`tell_nowait` found no room in the mailbox."""


class UnknownMessage(ActorError, TypeError):
    """The actor does not handle messages of this class. It goes on; whoever asked gets this."""


class ActorRestarting(ActorError):
    """The actor crashed or ended before it came to the message, and is being restarted. Asking again is safe."""


class ActorDied(ActorError):
    """The actor crashed when it had begun to handle the message; `__cause__` is the crash.

    How far it got is unknown: whether asking again is safe depends on the message.
    """


class ActorStopped(ActorError):
    """The actor has ended for good. `__cause__` is the crash, where a crash ended it."""


class StartAborted(ActorStopped):
    """The actor was stopped before it was ready."""


class AskCycle(ActorError, RuntimeError):
    """The message would close a circle of actors whose hooks wait for each other; it was not sent."""


# Names


class NameTaken(ActorError, ValueError):
    """The registry knows another actor by that name."""


class UnknownName(ActorError, LookupError):
    """The registry knows no actor by that name."""


# Supervisors


class DuplicateChild(ActorError, ValueError):
    """The supervisor has a child of that name already."""


class UnknownChild(ActorError, LookupError):
    """The supervisor has no child of that name."""


class SupervisorStopped(ActorError):
    """The supervisor is stopping, or has stopped, and starts no more children."""


class ShutdownTimeout(ActorError, TimeoutError):
    """The `stopped` hook of a child took longer than the child's `shutdown` seconds and was cancelled."""


class StopFailed(ActorError):
    """The child has stopped, but its clean-up failed; `__cause__` is what it raised."""


class RestartsExhausted(ExceptionGroup[Exception]):
    """Children crashed more often than the supervisor's intensity allows: the crashes, each with its traceback."""

    def derive(self, excs: Sequence[Exception]) -> RestartsExhausted:  # type: ignore[override]
        """As `ExceptionGroup.derive`: what `split` and `except*` hand on is of this class too."""
        return RestartsExhausted(self.message, excs)
