"""The generated code is the code of the .proto files."""

from __future__ import annotations

from pathlib import Path

from proto.generate import SOURCES, generate


def test_the_checked_in_code_is_what_the_proto_files_generate(tmp_path: Path) -> None:
    """A .proto file that was changed without `make proto` fails here."""
    generate(tmp_path)
    generated = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.py*")}
    checked_in = {name: (SOURCES / name).read_bytes() for name in generated}
    assert generated == checked_in
    assert Path("boxlite/v1/__init__.py") in generated
    assert Path("lean/messages.pyi") in generated
