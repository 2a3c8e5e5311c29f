"""What the page says of an engine, besides its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from benchmarks.bare.engines import NAMES
from benchmarks.report.aims import AIMS, KRUN_AIMS, Aim
from benchmarks.rows import Row
from vmm_ffi.spec import VmmKind


@attrs.frozen
class Part:
    """A part of the page: the rows whose names begin so, in a table."""

    heading: str
    text: str
    beginnings: tuple[str, ...]
    pictures: tuple[str, ...] = ()


@attrs.frozen
class Edition:
    """The page of one engine."""

    introduction: str
    lab: str
    """Added where the figures are of the nested lab."""
    aims: tuple[Aim, ...]
    missed: str
    """Before the list of what stops the aims that are missed."""
    starts: str
    """What the starts are of which the first part tells."""
    memory: str
    """What to know of machines' memory."""
    stages: str
    """What the picture of stages shows."""
    bare: str

    @property
    def captions(self) -> Mapping[str, str]:
        """Each picture's name and what it shows."""
        return {
            "starts": f"First output, a command's round trip, and the same by {self.bare} or in the guest itself",
            "stages": self.stages,
            "streams": "Rates out of a box and into it, and those of the bare port",
            "crowds": "Seconds until the last of many boxes that start at once has answered, and of bare machines",
        }

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the page's order."""
        return (
            Part(
                "From a call to the first byte of output",
                f"`echo` in a new box: {self.starts}.",
                ("cold_first_output", "restore_first_output", "pool_first_output", "agent_start"),
                ("starts",),
            ),
            Part(
                "Where the time of a start goes",
                "`create` asks the runtime for a box, `echo` is the first command; the others are stages of the start, "
                "as `Box.metrics` tells them. The parts that a machine needs are made at the same time.",
                ("cold_stage", "restore_stage"),
                ("stages",),
            ),
            Part("Commands in a box that runs", "", ("exec_",)),
            Part("Streams", "", ("stream_",), ("streams",)),
            Part(
                "Many boxes",
                f"Memory and idle time are those of the largest crowd. {self.memory}",
                ("boxes_", "idle_", "host_kib", "host_cpu"),
                ("crowds",),
            ),
            Part("The end of a box", "", ("stop_", "remove_")),
        )


_QEMU: Final = Edition(
    introduction="""\
# Performance

What boxes take, each figure beside its limit: bare QEMU with the same kernel, driven by a script of its own, or the
guest itself doing the same, in the same run and in turn. The ratio is what this package costs; it says more than the
figure, which is the machine's. `python -m benchmarks boxes --engine qemu --json docs/performance.json` measures, in
about ten minutes, and `python -m benchmarks report docs/performance.json` makes this page of it (extra `bench`). For a
slow machine there are `--samples 0.1`, `--crowd 1 --crowd 10`, `--stream-mib 8` and `--patience 3600`.
[performance-krun.md](performance-krun.md) tells the same of libkrun.
""",
    lab="",
    aims=AIMS,
    missed="What stops those that are missed, each beside its own limit. In software, a machine's process translates "
    "the guest's code before it runs it, after a restore all of it anew; its time is the guest's work.",
    starts="booted where there is no template, restored from one, or taken from a pool",
    memory="A machine's private memory is what it shares with no other one of its template: in software, most of it "
    "is the translated code of what it has run since.",
    stages="The stages of a cold start and of a restore",
    bare="bare QEMU",
)

_KRUN: Final = Edition(
    introduction="""\
# Performance on libkrun

What boxes take on libkrun, each figure beside its limit: bare libkrun with the same kernel, driven by a script of its
own, or the guest itself doing the same, in the same run and in turn. The ratio is what this package costs.
[performance.md](performance.md) tells the same of QEMU.

On a host that has virtualization, `python -m benchmarks boxes --engine krun --json docs/performance-krun.json`
measures. Elsewhere the nested lab does, in about ten minutes where nothing else runs:

    python -m lab run -- python -m benchmarks boxes --engine krun --lab --json - >docs/performance-krun.json
    python -m benchmarks report docs/performance-krun.json

The second line makes this page of the rows (extra `bench`).
""",
    lab="""\
These figures are of the [nested lab](lab.md), where every instruction is emulated, and one processor does the work of
host and guest together. Read the ratios and the memory, and no times; differences below one and a half times say
nothing. What leaves the guest is dearer there than on any real machine, hundreds of times against twenty or thirty for
what does not: that weighs on commands and streams, which leave it often.
""",
    aims=KRUN_AIMS,
    missed="What stops those that are missed, each beside its own limit.",
    starts="booted where there is no template, restored from one, or taken from a pool",
    memory="Machines on libkrun share no memory: one that is restored has a copy of what was saved.",
    stages="The stages of the starts",
    bare="bare libkrun",
)


def edition_of(rows: Sequence[Row]) -> Edition:
    """That of the engine that the rows are about, which their methods name, that of the host's row above all."""
    telling = [row for row in rows if row.name == "host_processors"] or rows
    return _KRUN if any(NAMES[VmmKind.KRUN] in row.method for row in telling) else _QEMU
