"""What the documents show is what the tests run, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_the_guide_shows_its_examples_to_the_letter() -> None:
    """Each program is the file that its link names; tests/cli/test_examples.py runs those files."""
    guide = (ROOT / "docs/guide.md").read_text()
    shown = dict(re.findall(r"\((examples/\w+\.py)\):\n\n```python\n(.*?)```\n", guide, re.DOTALL))
    assert shown == {name: (ROOT / "docs" / name).read_text() for name in shown}
    assert len(shown) == guide.count("```python") == 5


def test_the_page_about_pools_shows_its_example_to_the_letter() -> None:
    page = (ROOT / "docs/pools.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```\n", page, re.DOTALL)
    assert program == (ROOT / "docs/examples/pool.py").read_text()


def test_the_page_about_volumes_shows_its_example_to_the_letter() -> None:
    page = (ROOT / "docs/volumes.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```\n", page, re.DOTALL)
    assert program == (ROOT / "docs/examples/volumes.py").read_text()


def test_the_readme_shows_the_first_program() -> None:
    """The same file, without its docstring."""
    program = re.findall(r"```python\n(.*?)```\n", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    assert (ROOT / "docs/examples/first.py").read_text().endswith(f'"""\n\n{program}')


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target
