"""Every error that this package raises on purpose: one root, one class a situation.

A message names the box or image, the operation, the cause, and the way out where there is one.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from boxlite.vmm.process import VmExit


class BoxliteError(Exception):
    """The root: `except BoxliteError` catches whatever this package raises on purpose."""


def first_error(error: BaseException) -> BaseException:
    """The first plain error of a group, however deep it is; one that is no group is given back."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# Images


class ImageError(BoxliteError):
    """Something is wrong with an image."""


class InvalidReference(ImageError, ValueError):
    """The text does not name an image."""


class ImageNotFound(ImageError, LookupError):
    """There is no such image, tag or blob."""


class ImageDamaged(ImageError, ValueError):
    """The image's bytes are not what its digests or its format promise."""


class LayerRejected(ImageError, ValueError):
    """A layer tries to leave its root, lies about its size, or unpacks without end."""


class UnsupportedImage(ImageError, NotImplementedError):
    """The image is sound, but of a kind that cannot be used here: another architecture, an unknown compression."""


class RegistryUnavailable(ImageError, ConnectionError):
    """A registry cannot be reached, fails, or has us wait for longer than we may."""


class RegistryMisbehaved(ImageError, ConnectionError):
    """A registry's answer breaks the protocol, or one of our limits: trying again leads nowhere."""


class AuthenticationFailed(ImageError, PermissionError):
    """A registry does not let us have the image: no credentials, or ones that it refuses.

    `anonymous` says that the user has none for it: there may as well be no such image.
    """

    def __init__(self, message: str, *, anonymous: bool = False) -> None:
        super().__init__(message)
        self.anonymous = anonymous


class RegistryBlocked(ImageError, PermissionError):
    """The configuration of registries forbids this one."""


class InvalidRegistryConfig(BoxliteError, ValueError):
    """A configuration of registries, or a file with credentials, that cannot be understood."""


class ImageInUse(ImageError, RuntimeError):
    """The image cannot be removed: a box, or another process, needs it."""


class DaemonUnavailable(ImageError, ConnectionError):
    """The local Docker or Podman does not run, cannot be reached, or refuses."""


class GuestBuildFailed(BoxliteError, RuntimeError):
    """The guest's root disk or a builtin image could not be made out of this host's files."""


class StorageFull(BoxliteError, OSError):
    """The file system that keeps boxes and images has no room left."""


NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
"""By which the system says so: there is none, or none for this user."""


# Engines and virtual machines


class EngineUnavailable(BoxliteError, OSError):
    """No virtual machine can be started here: a program, library, kernel or permission is missing."""


class JailUnavailable(BoxliteError, OSError):
    """The preset asks for a measure that this host cannot give."""


class ZygoteError(BoxliteError, ChildProcessError):
    """The process that starts the virtual machines has ended, or could not start one."""


class BoxError(BoxliteError):
    """Something is wrong with one box, whose name `box` is."""

    def __init__(self, box: str, message: str) -> None:
        super().__init__(f"box {box}: {message}")
        self.box = box


class IllegalTransition(BoxError, RuntimeError):
    """What was asked of the box is not possible in the state that it is in."""


class BoxNotRunning(BoxError, RuntimeError):
    """The box has stopped or failed, and mere use does not start it again."""

    def __init__(self, box: str, state: str, cause: str) -> None:
        super().__init__(box, f"it is {state}" + (f" ({cause})" if cause else "") + ": start() starts it again")


class BoxStopped(BoxError, RuntimeError):
    """The box was stopped or removed while something was asked of it."""


class BoxCrashed(BoxError, RuntimeError):
    """The actor that owned the box crashed, which is a bug of this package; `__cause__` leads to the crash."""


class BoxExists(BoxError, ValueError):
    """There is a box of that name already."""


class BoxNotFound(BoxError, LookupError):
    """There is no box of that name."""


class InvalidOptions(BoxliteError, ValueError):
    """An option of a box or of a runtime that cannot be honoured."""


class RuntimeClosed(BoxliteError, RuntimeError):
    """The block of `open_runtime` was left; its boxes are gone."""


class RuntimeFailed(BoxliteError, RuntimeError):
    """The runtime's own actors crashed more often than their supervisor allows; `__cause__` has the crashes."""


class DiskError(BoxliteError, OSError):
    """A disk could not be made: no space, no permission, or a missing program."""


class BootFailed(BoxError, RuntimeError):
    """The box's virtual machine did not get ready; `console` is the tail of what it printed.

    `ended` says that it ended by itself, and was not given up.
    """

    def __init__(self, box: str, reason: str, console: str = "", *, ended: bool = False) -> None:
        super().__init__(box, f"the start failed: {reason}" + (f"; its console:\n{console}" if console else ""))
        self.reason = reason
        self.console = console
        self.ended = ended


class BoxDied(BoxError, ConnectionError):
    """The box's virtual machine ended on its own; `console` is the tail of what it printed."""

    def __init__(self, box: str, reason: str, console: str = "") -> None:
        super().__init__(box, f"the virtual machine died: {reason}" + (f"; its console:\n{console}" if console else ""))
        self.reason = reason
        self.console = console


class BoxPaused(BoxError, RuntimeError):
    """The box is paused, and can do nothing until it is resumed."""

    def __init__(self, box: str) -> None:
        super().__init__(box, "it is paused: resume() lets it go on")


class BoxUnresponsive(BoxError, TimeoutError):
    """The box's virtual machine does not obey the program that runs it."""


class VolumeUnavailable(BoxError, OSError):
    """A directory or file of the host, which the box is to have as a volume, is not there or cannot be used."""


class VmGone(BoxliteError, ProcessLookupError):
    """The virtual machine that a store remembers does not run any more; `exit` says how it ended, where known."""

    def __init__(self, message: str, exit: VmExit | None = None) -> None:
        super().__init__(message)
        self.exit = exit


class TemplateFailed(BoxliteError, RuntimeError):
    """A template could not be made. Boxes do without: they boot."""


class TemplateNotFound(BoxliteError, LookupError):
    """There is no template of that name, or more than one."""


class SocketPathTooLong(BoxliteError, ValueError):
    """The path of a Unix socket would exceed what the operating system takes."""


# What is kept from one runtime to the next


class HomeInUse(BoxliteError, BlockingIOError):
    """Another runtime has this home; the message names the process."""


class StoreFailed(BoxliteError, OSError):
    """The database of boxes could not be read or written."""


class OverBudget(BoxliteError, RuntimeError):
    """The runtime has not as much memory, or as many processors, to give as the box asks for."""


# Pools


class PoolUnavailable(BoxliteError, RuntimeError):
    """The pool has no box and starts none for now, since too many of its starts failed; `__cause__` is the last."""


class PoolClosed(BoxliteError, RuntimeError):
    """The block of the pool was left."""


# Commands in a box


class InvalidCommand(BoxliteError, ValueError):
    """A command, or an option of it, that no box could run: empty, with a NUL byte, with an impossible timeout."""


class ArgumentsTooLong(BoxliteError, OSError):
    """The command's arguments and environment are larger than the guest's kernel takes (E2BIG)."""


class CommandNotStarted(BoxError, OSError):
    """The guest could not start the command: it has no process, memory or descriptor left."""


class WorkdirNotFound(BoxError, FileNotFoundError):
    """The working directory does not exist in the box, or is no directory."""


class UserNotFound(BoxError, LookupError):
    """The user or group is not in the box's /etc/passwd or /etc/group."""


class OutputGap(BoxError, OSError):
    """More was written while nobody was attached than the guest keeps. Reading again goes on after the gap.

    Bytes from offset `start` up to `end` of the stream are lost.
    """

    def __init__(self, box: str, start: int, end: int) -> None:
        super().__init__(box, f"bytes {start} to {end} of the output are lost: more was written than the guest keeps")
        self.start = start
        self.end = end


class OutputTooLarge(BoxError, OverflowError):
    """A command wrote more than `run` was told to keep; it was killed."""


# The portal


class PortalLost(BoxError, ConnectionError):
    """The connection to the guest's agent ended, or what came over it made no sense."""


class GuestRefused(BoxError, RuntimeError):
    """The guest's agent answered a call with an error."""


class ExecutionNotFound(GuestRefused, LookupError):
    """The guest knows no execution of this id, or not any more."""


class ExecutionTaken(GuestRefused):
    """Somebody else has attached to the execution, and gets its output from now on."""
