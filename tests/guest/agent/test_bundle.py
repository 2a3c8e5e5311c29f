"""Modules come out of one file."""

from __future__ import annotations

import marshal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import guest.agent.bundle

if TYPE_CHECKING:
    from guest.agent.bundle import Module


def modules(imports: dict[str, list[str]] | None = None, **sources: str) -> dict[str, Module]:
    """Modules, with _ in the place of a dot; `package` is one."""
    return {
        name.replace("_", "."): (
            f"/{name}.py",
            name == "package",
            compile(source, f"/{name}.py", "exec"),
            (imports or {}).get(name, []),
        )
        for name, source in sources.items()
    }


def run(contents: dict[str, Module], program: str) -> subprocess.CompletedProcess[str]:
    """A program in an interpreter of its own, which finds modules in the file first, as in the guest."""
    start = (
        "import marshal, sys\n"
        f"exec(open({guest.agent.bundle.__file__!r}).read())\n"
        f"sys.meta_path.insert(0, Bundle(marshal.loads({marshal.dumps(contents)!r})))\n"
    )
    return subprocess.run([sys.executable, "-ISBc", start + program], capture_output=True, text=True, timeout=60)


def test_packages_and_modules_are_found() -> None:
    done = run(
        modules(package="top = 1", package_inner="from package import top\nvalue = top + 1"),
        "import package.inner as found\nprint(found.value, found.__name__, found.__file__, found.__package__)",
    )
    assert (done.stdout, done.stderr) == ("2 package.inner /package_inner.py package\n", "")


def test_what_a_module_imports_is_as_an_import_statement_makes_it() -> None:
    """Loaded on the short way, before the module's own code runs."""
    inner = "import sys\nloads = [name for name in sys.modules if name.startswith('package')]"
    done = run(
        modules(
            {"user": ["package", "package.inner", "other", "user"], "other": ["user", "package.inner"]},
            package="",
            package_inner=inner,
            other="from package.inner import loads as first",
            user="import sys\nassert 'package.inner' in sys.modules\nfrom package import inner\nimport other, package",
        ),
        "import user, package.inner\n"
        "print(user.inner is user.package.inner is package.inner, user.other.first, package.__path__, "
        "package.inner.__package__, package.inner.__spec__.origin, package.inner.__file__)",
    )
    assert done.stderr == ""
    assert done.stdout == "True ['package', 'package.inner'] [] package /package_inner.py /package_inner.py\n"


def test_the_file_goes_before_what_else_there_is() -> None:
    done = run(modules(json="loads = 'mine'"), "import json; print(json.loads)")
    assert (done.stdout, done.stderr) == ("mine\n", "")


def test_what_the_file_has_not_is_found_elsewhere() -> None:
    done = run(modules(), "import stat; print(stat.S_ISDIR(0))")
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_library_is_loaded_from_its_place(tmp_path: Path) -> None:
    """Even where the interpreter has one of the name."""
    import _ctypes

    library = tmp_path / "library.so"
    library.write_bytes(Path(_ctypes.__file__).read_bytes())
    done = run({"_ctypes": (str(library), False, None, [])}, "import _ctypes; print(_ctypes.__spec__.origin)")
    assert (done.stdout, done.stderr) == (f"{library}\n", "")


def test_an_error_in_a_module_names_its_place() -> None:
    done = run(modules(broken="\n\nraise OSError('reason')"), "import broken")
    assert 'File "/broken.py", line 3, in <module>' in done.stderr
    assert done.stderr.endswith("OSError: reason\n")
