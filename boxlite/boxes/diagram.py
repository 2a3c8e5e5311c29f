"""Draws the table of a box's life: `python -m boxlite.boxes.diagram` prints what docs/lifecycle.md contains."""

from __future__ import annotations

import sys

from boxlite.boxes.lifecycle import TRANSITIONS, BoxEvent, BoxState


def mermaid() -> str:
    """The table as a Mermaid state diagram, without the events that leave a state as it is."""
    lines = ["stateDiagram-v2", f"    [*] --> {BoxState.CONFIGURED}: {BoxEvent.CREATE}"]
    lines += [
        f"    {state} --> {after}: {event}" for (state, event), after in TRANSITIONS.items() if after is not state
    ]
    lines.append(f"    {BoxState.REMOVED} --> [*]")
    return "\n".join(lines)


def matrix() -> str:
    """The table as Markdown: a row for each event, a column for each state; an empty cell is not legal."""
    states, events = list(BoxState), [event for event in BoxEvent if event is not BoxEvent.CREATE]
    rows = [["event", *states], ["---"] * (len(states) + 1)]
    rows += [[event, *(TRANSITIONS.get((state, event), "") for state in states)] for event in events]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Prints both, as the page has them."""
    sys.stdout.write(f"```mermaid\n{mermaid()}\n```\n\n{matrix()}\n")


if __name__ == "__main__":
    main()
