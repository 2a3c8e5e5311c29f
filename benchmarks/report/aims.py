"""What was aimed at: on QEMU, on two cores without KVM; on libkrun, in ratios alone."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs

from benchmarks.rows import Row


class Figure(enum.Enum):
    """What of a row is held against an aim."""

    VALUE = "the figure itself"
    RATIO = "the figure over its limit"
    ABOVE = "the figure less its limit"


@attrs.frozen
class Aim:
    """A bound for a figure: an upper one, unless `at_least`."""

    what: str
    row: str
    bound: float
    stretch: float | None = None
    figure: Figure = Figure.VALUE
    at_least: bool = False
    made_of: tuple[str, ...] = ()
    """Rows that say where it goes, for one that is missed."""

    def measured(self, rows: Mapping[str, Row]) -> float | None:
        """The figure that the aim is about; None where it was not measured."""
        row = rows.get(self.row)
        if row is None or row.value is None:
            return None
        match self.figure:
            case Figure.VALUE:
                return row.value
            case Figure.RATIO:
                return row.ratio
            case Figure.ABOVE:
                return None if row.limit is None else row.value - row.limit

    def met(self, measured: float, bound: float) -> bool:
        """Whether a figure keeps within the bound."""
        return measured >= bound if self.at_least else measured <= bound


_OUTPUT: Final = Aim(
    "Output, of the bare port's rate",
    "stream_out_ratio",
    0.25,
    0.5,
    Figure.RATIO,
    at_least=True,
    made_of=("stream_out_machine_work", "stream_out_host_work", "stream_pipe_ratio"),
)
_INPUT: Final = Aim(
    "Input, of the bare port's rate",
    "stream_in_ratio",
    0.25,
    0.5,
    Figure.RATIO,
    at_least=True,
    made_of=("stream_in_machine_work", "stream_in_host_work", "stream_pipe_ratio"),
)
_AGENT: Final = Aim(
    "The agent's start, in starts of a bare Python", "agent_start_over_bare_python", 2, None, Figure.RATIO
)

AIMS: Final = (
    Aim(
        "From a template to the first output",
        "restore_first_output_p50",
        250,
        180,
        made_of=("restore_machine_work", "restore_host_work"),
    ),
    Aim(
        "From a pool to the first output",
        "pool_first_output_p50",
        30,
        20,
        made_of=("exec_machine_work", "exec_host_work"),
    ),
    Aim(
        "A command's round trip, above the guest's own spawn",
        "exec_over_spawn_p50",
        10,
        5,
        Figure.ABOVE,
        made_of=("exec_machine_work", "exec_host_work"),
    ),
    _OUTPUT,
    _INPUT,
    _AGENT,
    Aim("Private memory of an idle box", "idle_private_mib", 25, made_of=("idle_code_mib",)),
    Aim("Processor time of an idle box", "idle_cpu_percent", 1),
    Aim(
        "100 boxes at once, until the last one's first output",
        "boxes_100_s",
        30,
        made_of=("restore_machine_work", "restore_host_work"),
    ),
)

KRUN_AIMS: Final = (
    Aim(
        "A cold start to the first output, in boots of bare libkrun",
        "cold_first_output_p50",
        2,
        1.5,
        Figure.RATIO,
        made_of=("cold_stage_spawn", "cold_stage_connect", "cold_stage_container", "cold_stage_echo"),
    ),
    Aim(
        "From a template to the first output, in restores of bare libkrun",
        "restore_first_output_p50",
        2,
        1.5,
        Figure.RATIO,
        made_of=(
            *("restore_machine_work", "restore_host_work", "restore_stage_create", "restore_stage_spawn"),
            *("restore_stage_connect", "restore_stage_restore", "restore_stage_echo"),
        ),
    ),
    Aim(
        "From a pool to the first output, in answers of a bare shell",
        "pool_first_output_p50",
        2,
        None,
        Figure.RATIO,
        made_of=("exec_machine_work", "exec_host_work"),
    ),
    Aim(
        "A command's round trip, in the guest's own spawns",
        "exec_over_spawn_p50",
        3,
        2,
        Figure.RATIO,
        made_of=("exec_machine_work", "exec_host_work"),
    ),
    _OUTPUT,
    _INPUT,
    _AGENT,
    Aim("Private memory of an idle box, in that of a bare machine", "idle_private_mib", 1.5, None, Figure.RATIO),
    Aim("A stop, in a bare guest's own", "stop_p50", 3, 2, Figure.RATIO),
)
