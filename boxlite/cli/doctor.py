"""`boxlite doctor`: why virtual machines do or do not run on this host, and what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import attrs
import click
import trio

from boxlite.cli.options import jail_option
from boxlite.runtime.layout import find_home
from boxlite.vmm.doctor import Check, examine
from boxlite.vmm.jail import find_policy


@click.command()
@click.option("--home", metavar="DIR", help="Where images are kept.  [default: $BOXLITE_HOME, else ~/.boxlite]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of a table.")
@jail_option
def doctor(home: str | None, as_json: bool, jail: str | None) -> int:
    """Examine this host.

    Shows what virtual machines need, what is missing and how to get it, and which engine was chosen and why.

    The exit status is 0 if they can run and 1 if not. Nothing is changed.
    """
    checks = trio.run(partial(examine, find_home(home).path, policy=find_policy(jail)))
    ok = all(check.ok for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": ok, "checks": [attrs.asdict(check) for check in checks]}))
    else:
        _print(checks, ok)
    return 0 if ok else 1


def _print(checks: Sequence[Check], ok: bool) -> None:
    # Imported here: `boxlite run` need not pay for it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 1))
    for check in checks:
        finding = Text(check.detail)
        if check.remedy:
            finding.append(f"\nto do: {check.remedy}", style="yellow")
        tick = Text("✗", style="red") if not check.ok else Text("!" if check.remedy else "✓", style="green")
        table.add_row(tick, Text(check.name, style="bold"), finding)
    console = Console()
    if not console.is_terminal:
        # For a file or another program: one line a finding, however long.
        console.width = 10_000
    verdict = "virtual machines can run here" if ok else "virtual machines cannot run here yet: see what is to do"
    # rich would end the process by itself where nobody reads.
    with console.capture() as text:
        console.print(table)
        console.print(Text(verdict, style="green" if ok else "red"))
    click.echo(text.get(), nl=False)
