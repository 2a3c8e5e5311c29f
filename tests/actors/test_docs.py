"""What docs/actors.md shows works as shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "actors.md"


def test_the_first_actor_of_the_page_counts_to_three(capsys: pytest.CaptureFixture[str]) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert program is not None
    exec(compile(program[1], str(PAGE), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "3\n"
