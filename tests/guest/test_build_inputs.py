"""What a build reads is noted down."""

import json
from pathlib import Path

import pytest

from guest.build.inputs import Inputs


@pytest.fixture
def library(tmp_path: Path) -> Path:
    directory = tmp_path / "library"
    (directory / "package" / "__pycache__").mkdir(parents=True)
    (directory / "package" / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (directory / "package" / "a.py").write_text("a")
    (directory / "tests").mkdir()
    (directory / "tests" / "test_a.py").write_text("test")
    (directory / "linked.py").symlink_to("package/a.py")
    (directory / "dangling.py").symlink_to("nowhere")
    (directory / "loop").symlink_to(".")
    return directory


def test_files_are_found_at_every_level(library: Path) -> None:
    """Links to files count, links to directories, to nowhere and in circles do not, nor do the names to skip."""
    assert Inputs().files_below(library, frozenset({"tests"})) == {
        "linked.py": library / "linked.py",
        "package/a.py": library / "package" / "a.py",
    }


def test_what_is_read_and_listed_is_recorded(library: Path) -> None:
    """Files with size and time, directories with their names, but for the compiled ones, which come and go."""
    inputs = Inputs()
    for path in inputs.files_below(library, frozenset({"tests"})).values():
        inputs.read(path)
    record = json.loads(json.dumps(inputs.record()))
    stamp = [1, (library / "package" / "a.py").stat().st_mtime_ns]
    assert record["files"] == {str(library / "linked.py"): stamp, str(library / "package" / "a.py"): stamp}
    assert record["directories"] == {
        str(library): ["dangling.py", "linked.py", "loop", "package", "tests"],
        str(library / "package"): ["a.py"],
    }


def test_a_missing_file_is_an_error_and_not_recorded(tmp_path: Path) -> None:
    inputs = Inputs()
    with pytest.raises(FileNotFoundError):
        inputs.read(tmp_path / "gone")
    assert inputs.record()["files"] == {}
