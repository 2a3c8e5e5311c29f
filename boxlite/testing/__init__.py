"""What to test programs with that use boxes: a model of a computer with virtual machines, in process, in virtual time.

`docs/testing.md` tells how. What needs Hypothesis or pytest is in modules of its own: `boxlite.testing.lifecycle`,
`boxlite.testing.strategies` and `boxlite.testing.fixtures`.
"""

from boxlite.testing.faults import Fault, FaultKind, FaultPlan, Stage, draw_faults
from boxlite.testing.host import SimulatedHost, open_host
from boxlite.testing.machine import MachineSnapshot
from boxlite.testing.programs import PROGRAMS, Killed, Process, Program, Programs
from boxlite.testing.runtime import open_simulated_runtime
from boxlite.testing.vmm import SimulatedVm, SimulatedVmm

__all__ = [
    "PROGRAMS",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "Killed",
    "MachineSnapshot",
    "Process",
    "Program",
    "Programs",
    "SimulatedHost",
    "SimulatedVm",
    "SimulatedVmm",
    "Stage",
    "draw_faults",
    "open_host",
    "open_simulated_runtime",
]
