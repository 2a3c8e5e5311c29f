"""All modules of the agent go into one file."""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

import pytest

from guest.build.bundle import bundle
from guest.build.errors import BuildError
from guest.build.tree import File, Tree

if TYPE_CHECKING:
    from guest.agent.bundle import Module

TREE: Tree = {
    "usr/lib/x/package/__init__.py": File(b"'Text.'"),
    "usr/lib/x/package/module.py": File(b"def f():\n    'Text.'\n    assert False\n    return 7\n"),
    "usr/lib/x/single.py": File(b"import _fast, os\nfrom package import module, name\nif 0:\n    import later"),
    "usr/lib/x/later.py": File(b""),
}


def test_modules_have_the_names_that_they_are_imported_by() -> None:
    modules: dict[str, Module] = marshal.loads(bundle(TREE, "usr/lib/x", ["usr/lib/dynload/_fast.cpython-399-a.so"]))
    assert {name: entry[:2] for name, entry in modules.items()} == {
        "package": ("/usr/lib/x/package/__init__.py", True),
        "package.module": ("/usr/lib/x/package/module.py", False),
        "single": ("/usr/lib/x/single.py", False),
        "later": ("/usr/lib/x/later.py", False),
        "_fast": ("/usr/lib/dynload/_fast.cpython-399-a.so", False),
    }
    assert modules["_fast"][2] is None


def test_code_has_what_runs_and_no_more() -> None:
    """Docstrings and assertions are left out: reading them takes time at each start."""
    modules: dict[str, Module] = marshal.loads(bundle(TREE, "usr/lib/x", []))
    code = modules["package.module"][2]
    assert code is not None
    assert b"Text." not in marshal.dumps(code)
    names: dict[str, object] = {}
    exec(code, names)
    function = names["f"]
    assert callable(function)
    assert function() == 7


def test_what_is_for_the_type_checker_is_left_out() -> None:
    source = b"""
from __future__ import annotations
TYPE_CHECKING = False
if TYPE_CHECKING:
    from nowhere import Type
else:
    import marshal
class Kind:
    bare: Type
    value: Type = 1
async def later(a: Type, *b: Type, c: Type = 2, **d: Type) -> Type:
    local: Type
    return a, b, c, d
def now(a: Type) -> Type:
    local: list[Type] = [a]
    return local
"""
    modules: dict[str, Module] = marshal.loads(bundle({"usr/lib/x/typed.py": File(source)}, "usr/lib/x", []))
    code = modules["typed"][2]
    assert code is not None
    assert b"Type\0" not in marshal.dumps(code)
    assert b"annotations" not in marshal.dumps(code)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["Kind"].value == 1
    assert names["now"](3) == [3]
    assert names["now"].__annotations__ == names["later"].__annotations__ == {}
    with pytest.raises(StopIteration) as returned:
        names["later"](1, 5, x=6).send(None)
    assert returned.value.value == (1, (5,), 2, {"x": 6})
    assert names["marshal"] is marshal


def test_each_module_says_what_it_imports_when_it_is_loaded() -> None:
    """Of what the file has, and in this order."""
    modules: dict[str, Module] = marshal.loads(bundle(TREE, "usr/lib/x", ["usr/lib/dynload/_fast.so"]))
    assert modules["single"][3] == ["_fast", "package", "package.module"]
    assert modules["package"][3] == modules["_fast"][3] == []


def test_a_source_that_does_not_compile_is_named() -> None:
    with pytest.raises(BuildError, match=r"usr/lib/x/new\.py does not compile"):
        bundle({"usr/lib/x/new.py": File(b"print 'x'")}, "usr/lib/x", [])
