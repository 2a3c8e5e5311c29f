"""docs/testing.md says what is: its programs run, and its table is the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from boxlite.testing.faults import POSSIBLE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/testing.md").read_text()
PROGRAMS = [block for block in re.findall(r"```python\n(.*?)```\n", PAGE, re.DOTALL) if "import" in block]
SAYS = ["b'hello\\n'\n", "b'fetched everything'\n", "b'still here\\n'\n", ""]


def test_no_program_is_forgotten_here() -> None:
    assert len(PROGRAMS) == len(SAYS)


@pytest.mark.parametrize(("program", "says"), [*zip(PROGRAMS, SAYS, strict=True)])
def test_each_program_of_the_page_runs(program: str, says: str, tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.endswith(says)


def test_the_table_of_faults_is_the_code_s() -> None:
    assert "".join(f"| {stage} | {', '.join(sorted(kinds))} |\n" for stage, kinds in POSSIBLE.items()) in PAGE
