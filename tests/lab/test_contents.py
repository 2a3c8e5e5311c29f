"""What goes along into the lab."""

from __future__ import annotations

import json
from pathlib import Path

from lab.contents import home


def test_what_was_made_of_files_that_have_gone_is_no_error(tmp_path: Path) -> None:
    """As after a checkout was moved, whose old path the record of a disk still names."""
    there = tmp_path / "there"
    there.touch()
    made = tmp_path / "builtin"
    made.mkdir()
    (made / "root.json").write_text(json.dumps({"files": [str(there), str(tmp_path / "gone")]}))
    paths = set(home([made]))
    assert str(there) in paths
    assert str(tmp_path / "gone") not in paths
