"""What can go wrong with a simulated machine, as data: which fault, where in its life, and when."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs


class Stage(enum.StrEnum):
    """The points of a machine's life at which a fault can strike. A machine passes some of them many times."""

    SPAWN = "spawn"
    """The engine starts its process."""
    KERNEL = "kernel"
    """Its kernel begins."""
    AGENT = "agent"
    """Its agent begins."""
    READY = "ready"
    """The host connects; the first time it reads the ready notice."""
    INIT = "init"
    """Guest.Init."""
    CONTAINER = "container"
    """Container.Init."""
    FREEZE = "freeze"
    """Guest.Freeze."""
    SAVE = "save"
    """The engine saves it."""
    LOAD = "load"
    """The engine gives it a saved state, in place of a boot."""
    RESTORE = "restore"
    """Guest.Restore."""
    EXEC = "exec"
    """A command starts."""
    INPUT = "input"
    """A chunk of a command's input comes."""
    OUTPUT = "output"
    """An event with a command's output goes to the host."""
    EXIT = "exit"
    """The event with a command's end goes to the host."""
    CALL = "call"
    """Any other call comes: ping, clock, attach, list, kill."""
    PAUSE = "pause"
    RESUME = "resume"
    SHUTDOWN = "shutdown"
    """Guest.Shutdown."""
    POWER_BUTTON = "power button"
    END = "end"
    """Its process has ended and its keeper writes the exit file."""


class FaultKind(enum.StrEnum):
    """What goes wrong."""

    DIE = "die"
    """The machine's process ends by SIGKILL."""
    PANIC = "panic"
    """The guest's kernel panics: the process ends with code 0, and the console says why."""
    HANG = "hang"
    """It never gets beyond this point; everything else goes on."""
    SLOW = "slow"
    """It takes `seconds` longer."""
    DROP = "drop"
    """The connection to the agent ends."""
    LOSE = "lose"
    """What was to be sent or written is not."""
    DUPLICATE = "duplicate"
    """The event is sent twice."""
    SPLIT = "split"
    """The event is sent in pieces of one byte or so, which is legal."""
    LIE = "lie"
    """What is sent or written is false."""
    REFUSE = "refuse"
    """The agent, or the engine, says no."""
    FILL = "fill"
    """From here on the host's disk has no room, for `seconds`."""


_S, _K = Stage, FaultKind
_ANYWHERE = frozenset({_K.DIE, _K.HANG, _K.SLOW, _K.FILL})
_IN_GUEST = _ANYWHERE | {_K.PANIC}
_IN_CALL = _IN_GUEST | {_K.DROP, _K.REFUSE}
_IN_STREAM = _IN_GUEST | {_K.DROP, _K.LOSE, _K.DUPLICATE}

POSSIBLE: Mapping[Stage, frozenset[FaultKind]] = MappingProxyType(
    {
        _S.SPAWN: _ANYWHERE | {_K.REFUSE},
        _S.KERNEL: _IN_GUEST,
        _S.AGENT: _IN_GUEST,
        _S.READY: _IN_GUEST | {_K.DROP, _K.LIE},
        _S.INIT: _IN_CALL,
        _S.CONTAINER: _IN_CALL,
        _S.FREEZE: _IN_CALL,
        _S.SAVE: _ANYWHERE | {_K.REFUSE},
        _S.LOAD: _IN_GUEST | {_K.REFUSE},
        _S.RESTORE: _IN_CALL,
        _S.EXEC: _IN_CALL,
        _S.INPUT: _IN_CALL,
        _S.OUTPUT: _IN_STREAM | {_K.SPLIT},
        _S.EXIT: _IN_STREAM | {_K.LIE},
        _S.CALL: _IN_CALL,
        _S.PAUSE: _ANYWHERE | {_K.REFUSE},
        _S.RESUME: _ANYWHERE | {_K.REFUSE},
        _S.SHUTDOWN: _IN_CALL | {_K.LIE},
        _S.POWER_BUTTON: _ANYWHERE | {_K.REFUSE, _K.LIE},
        _S.END: frozenset({_K.LOSE, _K.LIE, _K.FILL}),
    }
)
"""Which faults make sense where."""


@attrs.frozen
class Fault:
    """One fault; it strikes once.

    `nth` counts, from 1, how often a machine comes to the stage: a machine of the box where `box` names one, else any.
    `seconds` is for `SLOW` and `FILL`.
    """

    at: Stage
    kind: FaultKind
    nth: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(1))
    box: str | None = attrs.field(default=None, kw_only=True)
    seconds: float = attrs.field(default=1.0, kw_only=True, validator=attrs.validators.ge(0))

    def __attrs_post_init__(self) -> None:
        if self.kind not in POSSIBLE[self.at]:
            possible = ", ".join(sorted(POSSIBLE[self.at]))
            raise ValueError(f"{str(self.kind)!r} is not possible at {str(self.at)!r}: possible is {possible}")

    def __str__(self) -> str:
        where = f"{self.at} {self.nth}" + (f" of {self.box}" if self.box else "")
        return f"{self.kind} at {where}" + (f" for {self.seconds:g} s" if self.kind in (_K.SLOW, _K.FILL) else "")


class FaultPlan:
    """The faults that are still to come."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._pending: list[tuple[Fault, int]] = []
        for fault in faults:
            self.add(fault)

    @property
    def pending(self) -> tuple[Fault, ...]:
        """Those that have not struck."""
        return tuple(fault for fault, _ in self._pending)

    def add(self, fault: Fault) -> None:
        """One more; its `nth` counts from now."""
        self._pending.append((fault, fault.nth))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._pending.clear()

    def strike(self, stage: Stage, box: str) -> Fault | None:
        """A machine of this box comes to this stage: the fault that strikes there, if there is one."""
        struck = None
        for index, (fault, count) in enumerate(self._pending):
            if fault.at is stage and fault.box in (None, box):
                self._pending[index] = fault, count - 1
                if count <= 1 and struck is None:
                    struck = index
        return None if struck is None else self._pending.pop(struck)[0]


def draw_faults(source: random.Random, count: int) -> tuple[Fault, ...]:
    """So many faults by a given generator, any kind at any stage; most of them strike early."""
    stages = tuple(Stage)
    faults = []
    for _ in range(count):
        stage = source.choice(stages)
        kind = source.choice(sorted(POSSIBLE[stage]))
        seconds = source.choice((0.01, 0.5, 3.0, 30.0))
        faults.append(Fault(stage, kind, nth=1 + int(source.expovariate(0.4)), seconds=seconds))
    return tuple(faults)
