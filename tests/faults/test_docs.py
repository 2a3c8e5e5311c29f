"""docs/faults.md names the faults that are tried, all of them, and no other."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs/faults.md").read_text()


def names_in(file: Path) -> list[str]:
    return re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)


def test_each_section_names_the_tests_of_its_file_in_their_order() -> None:
    sections = {
        Path(file).name: re.findall(r"`(test_\w+)` \|$", section, re.MULTILINE)
        for file, section in re.findall(
            r"^## [^\n]*: `(tests/faults/\w+\.py)`$(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL
        )
    }
    assert sections == {file.name: names_in(file) for file in HERE.glob("test_*.py") if file.name != "test_docs.py"}
