"""Modules are compiled for the place that they have in the guest."""

import marshal
import sys
from types import CodeType

import pytest

from guest.build.bytecode import compiled
from guest.build.tree import File, Symlink

CACHED = f"usr/lib/__pycache__/module.{sys.implementation.cache_tag}.pyc"


def test_code_names_its_place_in_the_guest() -> None:
    """Nothing in a compiled module tells where the host keeps its source, down to the innermost function."""
    tree = compiled({"usr/lib/module.py": File(b"def outer():\n    def inner(): pass\n    return inner\n")})
    assert set(tree) == {CACHED}
    node = tree[CACHED]
    assert isinstance(node, File)
    pending = [marshal.loads(node.content[16:])]
    seen = set()
    while pending:
        code = pending.pop()
        assert code.co_filename == "/usr/lib/module.py"
        seen.add(code.co_name)
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    assert seen == {"<module>", "outer", "inner"}


def test_what_is_no_python_of_this_version_gets_no_code() -> None:
    """Such files lie in many libraries, and only who imports them must mind."""
    assert (
        compiled(
            {
                "old.py": File(b"print 'two'"),
                "nul.py": File(b"a = 1\0"),
                "coding.py": File(b"# -*- coding: no-such-coding -*-\n"),
                "bytes.py": File(b"name = '\xff'\n"),
                "link.py": Symlink("old.py"),
                "text.txt": File(b"pass"),
            }
        )
        == {}
    )


def test_the_sources_encoding_is_heeded() -> None:
    tree = compiled({"usr/lib/module.py": File(b"# -*- coding: latin-1 -*-\nname = '\xe4'\n")})
    node = tree[CACHED]
    assert isinstance(node, File)
    assert "ä" in marshal.loads(node.content[16:]).co_consts


def test_the_hosts_cache_prefix_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", "/elsewhere")
    assert set(compiled({"usr/lib/module.py": File(b"")})) == {CACHED}
