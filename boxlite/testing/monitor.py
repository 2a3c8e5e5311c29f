"""What must hold in every simulation, checked after each step."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import final

import trio

from boxlite.boxes.changes import BoxChange, Change
from boxlite.boxes.lifecycle import ACTIVE, DOWN, TRANSITIONS, UP, BoxEvent, BoxState
from boxlite.store.records import StoredBox
from boxlite.templates.key import PLACEHOLDER
from boxlite.testing.host import HOME, SimulatedHost
from boxlite.testing.machine import MachineSnapshot


class Violated(AssertionError):
    """A promise was broken."""


@final
class Monitor:
    """Follows the changes of a simulated host's boxes, over one runtime after the other.

    `announced` is for `open_simulated_runtime`. What is broken is collected in `violations`, since who announces must
    not be hit by an exception; `check` raises it.
    """

    def __init__(self, host: SimulatedHost) -> None:
        self.violations: list[str] = []
        self.trace: list[str] = []
        """Each change, and whatever else `note` was told, with its time."""
        self.lifecycles = 0
        """How many boxes were removed that had run."""
        self._host = host
        self._states: dict[str, BoxState] = {}
        self._names: dict[str, str] = {}
        self._have_run: set[str] = set()
        self._paused_until: dict[str, float] = {}

    def note(self, text: str) -> None:
        """Adds to the trace."""
        self.trace.append(f"{trio.current_time():.6f} {text}")

    def require(self, promise: object, otherwise: str) -> None:
        """Takes note of what is broken."""
        if not promise:
            self.violations.append(f"at {trio.current_time():.6f}: {otherwise}")
            self.note(f"VIOLATION {otherwise}")

    def check(self) -> None:
        """Raises `Violated` where anything was broken so far."""
        if self.violations:
            raise Violated("; ".join(self.violations))

    def was_paused(self, box: str, seconds: float) -> bool:
        """Whether a box of that name stood still at any time in the last `seconds`."""
        now = BoxState.PAUSED in (self._states[key] for key, name in self._names.items() if name == box)
        return now or trio.current_time() - self._paused_until.get(box, -inf) < seconds

    def begin(self) -> None:
        """A runtime opens, and finds what is stored. Removals that were under way are finished in silence."""
        stored = [box for box in self._host.store.load() if box.state is not BoxState.REMOVED]
        self._states = {box.id: box.state for box in stored}
        self._names = {box.id: box.name for box in stored}

    def announced(self, change: Change) -> None:
        """A step of a box."""
        if not isinstance(change, BoxChange):
            self.note(f"{change.box} {change.health} {change.failures}")
            return
        self.note(f"{change.box} {change.event}: {change.before} -> {change.after} ({change.cause})")
        self._check_transition(change)
        self._check_store(change)
        self.check_machines()

    def check_machines(self) -> None:
        """No orphans: each machine that runs belongs to a box that says so, and is its only one."""
        states = {self._names[box_id]: state for box_id, state in self._states.items()}
        # A template is made by a machine that belongs to no box.
        counts = Counter(machine.box for machine in self._host.machines if machine.box != PLACEHOLDER)
        for name, count in counts.items():
            self.require(count == 1, f"box {name} has {count} machines")
            state = states.get(name, BoxState.REMOVED)
            self.require(state in ACTIVE, f"box {name} is {state} and has a machine")

    def check_at_rest(self) -> None:
        """Nothing is under way, so store, disk and machines say the same."""
        # The row of a removed box stays where it could not be deleted, until the next runtime does.
        stored = {box.id: box for box in self._host.store.load() if box.state is not BoxState.REMOVED}
        running = {machine.box: machine for machine in self._host.machines}
        self.check_machines()
        self.require(PLACEHOLDER not in running, "a template is being made, and nobody waits for it")
        self.require(
            {box.id: box.state for box in stored.values()} == self._states,
            "the store holds other states than announced",
        )
        for directory in self._host.disk.boxes:
            self.require(directory.parent != HOME / "boxes" or directory.name in stored, f"{directory} is no box's")
        for box in stored.values():
            self.require(box.state in UP | DOWN, f"box {box.name} is {box.state}, and nobody works on that")
            self._check_machine(box, running.get(box.name))

    def check_closed(self) -> None:
        """No runtime is open: what runs is detached, and stored as running."""
        stored = {box.name: box for box in self._host.store.load()}
        for machine in self._host.machines:
            box = stored.get(machine.box)
            # Where the store was full when it began, its keeper's file is what leads to it.
            files = self._host.disk.boxes.get(HOME / "boxes" / box.id) if box is not None else None
            known = [each.process for each in (box and box.vm, files and files.record) if each]
            self.require(
                machine.record.process in known, f"the machine of {machine.box} runs, and no record leads to it"
            )

    def _check_transition(self, change: BoxChange) -> None:
        before = self._states.get(change.box_id)
        self.require(before is change.before, f"{change.box} was {before}, and {change.event} tells of {change.before}")
        if change.event is BoxEvent.CREATE:
            self.require(change.after is BoxState.CONFIGURED, f"{change.box} was created {change.after}")
        elif change.before is not None:
            legal = TRANSITIONS.get((change.before, change.event))
            self.require(legal is change.after, f"{change.box}: {change.event} led {change.before} to {change.after}")
        self._states[change.box_id] = change.after
        self._names[change.box_id] = change.box
        if change.before is BoxState.PAUSED:
            self._paused_until[change.box] = trio.current_time()
        if change.event is BoxEvent.READY:
            self._have_run.add(change.box_id)
        if change.after is BoxState.REMOVED:
            del self._states[change.box_id], self._names[change.box_id]
            self.lifecycles += change.box_id in self._have_run

    def _check_store(self, change: BoxChange) -> None:
        """What is announced was stored, but for what has happened while the disk was full."""
        if self._host.disk.full:
            return
        stored = next((box.state for box in self._host.store.load() if box.id == change.box_id), BoxState.REMOVED)
        self.require(stored is change.after, f"{change.box} is announced as {change.after} and stored as {stored}")

    def _check_machine(self, box: StoredBox, machine: MachineSnapshot | None) -> None:
        expected = box.state in UP
        self.require(expected == (machine is not None), f"box {box.name} is {box.state}, its machine {machine}")
        if machine is not None and expected:
            self.require(box.vm is not None, f"box {box.name} runs without a record of its machine")
            self.require(
                box.vm is None or box.vm.process == machine.record.process,
                f"the record of {box.name} is of another one",
            )
            paused = box.state is BoxState.PAUSED
            self.require(
                paused == machine.paused, f"box {box.name} is {box.state}, its machine paused: {machine.paused}"
            )
