"""Micro-VM sandboxes as supervised actors, on Trio.

async with boxlite.open_runtime() as runtime:
    async with runtime.open_box("builtin/python") as box:
        done = await box.run(["python3", "-c", "print(6 * 7)"])
"""

from boxlite.boxes.actor import BoxStatus
from boxlite.boxes.box import Box
from boxlite.boxes.command import TtySize
from boxlite.boxes.execution import Execution
from boxlite.boxes.lifecycle import BoxState
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.outcome import Cancelled, Exited, Outcome, Signalled, TimedOut, VmDied, exit_status
from boxlite.boxes.run import CommandFailed, CommandTimedOut, Completed
from boxlite.boxes.stdin import InputStream
from boxlite.boxes.streams import ByteStream
from boxlite.errors import (
    ArgumentsTooLong,
    BootFailed,
    BoxCrashed,
    BoxDied,
    BoxError,
    BoxExists,
    BoxliteError,
    BoxNotFound,
    BoxNotRunning,
    BoxStopped,
    CommandNotStarted,
    DiskError,
    EngineUnavailable,
    GuestBuildFailed,
    GuestRefused,
    IllegalTransition,
    ImageDamaged,
    ImageError,
    ImageNotFound,
    InvalidCommand,
    InvalidOptions,
    InvalidReference,
    LayerRejected,
    OutputTooLarge,
    PortalLost,
    RuntimeClosed,
    RuntimeFailed,
    SocketPathTooLong,
    StorageFull,
    UnsupportedImage,
    UserNotFound,
    WorkdirNotFound,
    ZygoteError,
)
from boxlite.runtime.runtime import Runtime, open_runtime

__all__ = [
    "ArgumentsTooLong",
    "BootFailed",
    "Box",
    "BoxCrashed",
    "BoxDied",
    "BoxError",
    "BoxExists",
    "BoxNotFound",
    "BoxNotRunning",
    "BoxOptions",
    "BoxState",
    "BoxStatus",
    "BoxStopped",
    "BoxliteError",
    "ByteStream",
    "Cancelled",
    "CommandFailed",
    "CommandNotStarted",
    "CommandTimedOut",
    "Completed",
    "DiskError",
    "EngineUnavailable",
    "Execution",
    "Exited",
    "GuestBuildFailed",
    "GuestRefused",
    "IllegalTransition",
    "ImageDamaged",
    "ImageError",
    "ImageNotFound",
    "InputStream",
    "InvalidCommand",
    "InvalidOptions",
    "InvalidReference",
    "LayerRejected",
    "Outcome",
    "OutputTooLarge",
    "PortalLost",
    "Runtime",
    "RuntimeClosed",
    "RuntimeFailed",
    "Signalled",
    "SocketPathTooLong",
    "StorageFull",
    "TimedOut",
    "TtySize",
    "UnsupportedImage",
    "UserNotFound",
    "VmDied",
    "WorkdirNotFound",
    "ZygoteError",
    "exit_status",
    "open_runtime",
]
