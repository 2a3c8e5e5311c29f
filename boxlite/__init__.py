"""Micro-VM sandboxes as supervised actors, on Trio.

async with boxlite.open_runtime() as runtime:
    async with runtime.open_box("builtin/python") as box:
        done = await box.run(["python3", "-c", "print(6 * 7)"])
"""

from boxlite.boxes.attach import ExecutionInfo
from boxlite.boxes.box import Box
from boxlite.boxes.changes import BoxChange, Health, HealthReport
from boxlite.boxes.command import TtySize
from boxlite.boxes.execution import Execution
from boxlite.boxes.lifecycle import BoxEvent, BoxState
from boxlite.boxes.messages import BoxStatus
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.outcome import Cancelled, Exited, Outcome, Signalled, TimedOut, VmDied, exit_status
from boxlite.boxes.policy import HealthCheck, RestartKind, RestartPolicy
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
    BoxPaused,
    BoxStopped,
    BoxUnresponsive,
    CommandNotStarted,
    DiskError,
    EngineUnavailable,
    ExecutionNotFound,
    ExecutionTaken,
    GuestBuildFailed,
    GuestRefused,
    HomeInUse,
    IllegalTransition,
    ImageDamaged,
    ImageError,
    ImageNotFound,
    InvalidCommand,
    InvalidOptions,
    InvalidReference,
    LayerRejected,
    OutputGap,
    OutputTooLarge,
    OverBudget,
    PoolClosed,
    PoolUnavailable,
    PortalLost,
    RuntimeClosed,
    RuntimeFailed,
    SocketPathTooLong,
    StorageFull,
    StoreFailed,
    UnsupportedImage,
    UserNotFound,
    VmGone,
    WorkdirNotFound,
    ZygoteError,
)
from boxlite.metrics.snapshot import BoxMetrics, PoolMetrics, RuntimeMetrics
from boxlite.pools.breaker import BreakerState
from boxlite.pools.policy import PoolPolicy
from boxlite.pools.pool import Pool
from boxlite.runtime.events import EventsLost
from boxlite.runtime.opening import open_runtime
from boxlite.runtime.runtime import Runtime

__all__ = [
    "ArgumentsTooLong",
    "BootFailed",
    "Box",
    "BoxChange",
    "BoxCrashed",
    "BoxDied",
    "BoxError",
    "BoxEvent",
    "BoxExists",
    "BoxMetrics",
    "BoxNotFound",
    "BoxNotRunning",
    "BoxOptions",
    "BoxPaused",
    "BoxState",
    "BoxStatus",
    "BoxStopped",
    "BoxUnresponsive",
    "BoxliteError",
    "BreakerState",
    "ByteStream",
    "Cancelled",
    "CommandFailed",
    "CommandNotStarted",
    "CommandTimedOut",
    "Completed",
    "DiskError",
    "EngineUnavailable",
    "EventsLost",
    "Execution",
    "ExecutionInfo",
    "ExecutionNotFound",
    "ExecutionTaken",
    "Exited",
    "GuestBuildFailed",
    "GuestRefused",
    "Health",
    "HealthCheck",
    "HealthReport",
    "HomeInUse",
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
    "OutputGap",
    "OutputTooLarge",
    "OverBudget",
    "Pool",
    "PoolClosed",
    "PoolMetrics",
    "PoolPolicy",
    "PoolUnavailable",
    "PortalLost",
    "RestartKind",
    "RestartPolicy",
    "Runtime",
    "RuntimeClosed",
    "RuntimeFailed",
    "RuntimeMetrics",
    "Signalled",
    "SocketPathTooLong",
    "StorageFull",
    "StoreFailed",
    "TimedOut",
    "TtySize",
    "UnsupportedImage",
    "UserNotFound",
    "VmDied",
    "VmGone",
    "WorkdirNotFound",
    "ZygoteError",
    "exit_status",
    "open_runtime",
]
