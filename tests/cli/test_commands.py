"""What a call of the command line loads, and what an interrupt does meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from boxlite.cli.commands import LazyCommand, cli

LIBRARIES = frozenset({"asyncio", "attrs", "betterproto2", "grpclib", "h2", "rich", "sqlite3", "trio", "trio_asyncio"})
"""Those that are dear."""


def run_python(code: str, *arguments: str, ignoring: signal.Signals | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        preexec_fn=None if ignoring is None else lambda: signal.signal(ignoring, signal.SIG_IGN),
    )


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--version"], frozenset()),
        (["--help"], frozenset()),
        (["completion", "bash"], frozenset()),
        (["ls"], frozenset({"attrs", "sqlite3"})),
        (["inspect", "web"], frozenset({"attrs", "sqlite3"})),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_call_loads_what_it_needs(
    arguments: list[str], needed: frozenset[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOXLITE_HOME", str(tmp_path))
    code = """
import sys
from boxlite.cli.main import main
try:
    main()
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""
    loaded = run_python(code, *arguments).stderr.split()
    assert needed == LIBRARIES & set(loaded)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_list_says_of_a_command_what_its_own_help_says(name: str) -> None:
    listed = cli.commands[name]
    assert isinstance(listed, LazyCommand)
    assert listed.get_short_help_str(1000) == listed.load().get_short_help_str(1000)


INTERRUPTED_IMPORT = """
import os, signal, sys

module = sys.argv[1]

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from boxlite.cli.main import main
sys.argv[1:] = ["run", "--help"]
main()
"""


@pytest.mark.parametrize("module", ["click", "boxlite.cli.run", "trio"])
def test_an_interrupt_while_modules_are_loaded_ends_the_process_silently(module: str) -> None:
    done = run_python(INTERRUPTED_IMPORT, module)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_an_interrupt_that_is_ignored_stays_ignored() -> None:
    """As a shell has it for what it runs in the background."""
    done = run_python(INTERRUPTED_IMPORT, "trio", ignoring=signal.SIGINT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--workdir" in done.stdout
