"""The guest's root file system runs the agent, and nothing in it has to be made there."""

import ast
import hashlib
import marshal
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest.build.agent import BUNDLE, EXTENSIONS
from guest.build.archive import write_tar
from guest.build.layout import write_layout
from guest.build.root import INIT, MOUNT_POINTS
from guest.build.tree import MTIME
from tests.guest.build_products import Product, build

AS_INIT = INIT.partition("from guest.agent.main")[0]
"""/init as far as it finds modules."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Product:
    return build("root", tmp_path_factory.mktemp("root"))


def test_every_module_of_the_agent_can_be_imported(root: Product) -> None:
    """Whatever the agent imports is in the tree: a module that it lacks shows here, not at the boot."""
    done = root.run(
        "/usr/bin/python3",
        "-ISBc",
        AS_INIT
        + "found = {name: __import__(name, fromlist=['']) for name in sorted(modules)}\n"
        + "print({name: module.__spec__.origin for name, module in found.items()})",
    )
    assert done.stderr == ""
    files = ast.literal_eval(done.stdout)
    assert files["guest.agent.main"] == "/usr/lib/boxlite/guest/agent/main.py"
    assert files["proto.lean.messages"] == "/usr/lib/boxlite/proto/lean/messages.py"


def test_what_the_agent_imports_later_is_there_too(root: Product) -> None:
    """In a function, when the agent has long begun."""
    names = sorted({name for path in sources() for name in imports(ast.parse(path.read_text()))})
    assert "guest.agent.machine" in names
    done = root.run("/usr/bin/python3", "-ISBc", AS_INIT + f"for name in {names}:\n    __import__(name)")
    assert (done.stdout, done.stderr) == ("", "")


def sources() -> Iterator[Path]:
    """What the agent consists of, in this repository."""
    top = Path(__file__).parents[2]
    yield from (top / "guest" / "agent").rglob("*.py")
    yield from (top / "proto" / "lean").rglob("*.py")


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a source imports when it runs, which is not what it imports for the type checker."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            if node.module != "__future__":
                yield node.module
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(ast.Module(node.orelse, []))
        else:
            yield from imports(node)


def test_nothing_is_compiled_in_the_guest(root: Product) -> None:
    """What the interpreter itself starts with has its code beside it, and says so under -v; the rest is in one file."""
    done = root.run("/usr/bin/python3", "-ISBvc", AS_INIT + "import guest.agent.main")
    assert done.returncode == 0
    assert len(re.findall(r"\.pyc matches ", done.stderr)) >= 2
    assert re.findall(r"^# code object from .*\.py'?$", done.stderr, re.MULTILINE) == []
    assert "bytecode is stale" not in done.stderr


def test_init_calls_the_agent(root: Product) -> None:
    """The kernel starts /init by its first line, with no environment to speak of."""
    done = root.run(
        "/usr/bin/python3",
        "-ISB",
        "-c",
        "import sys; agent = type(sys)('guest.agent.main'); agent.main = lambda: print(sys.meta_path[0]);"
        "sys.modules |= {'guest': agent, 'guest.agent': agent, 'guest.agent.main': agent}; exec(open('/init').read())",
    )
    assert done.stderr == ""
    assert done.stdout.startswith("<guest.agent.bundle.Bundle ")
    assert INIT.startswith("#!/usr/bin/python3 -I")
    assert (root.tree / "init").read_text() == INIT
    assert (root.tree / "init").stat().st_mode & 0o777 == 0o755


def test_a_traceback_shows_the_agents_lines(root: Product) -> None:
    """What the console's tail is for: the sources lie where the code says."""
    done = root.run(
        "/usr/bin/python3", "-ISBc", AS_INIT + "from guest.agent import disks\ndisks.mount_disk('?', read_only=True)"
    )
    assert 'File "/usr/lib/boxlite/guest/agent/disks.py", line ' in done.stderr
    assert "raise DiskError(" in done.stderr


def test_every_file_is_roots_and_of_one_time(root: Product) -> None:
    """Nobody but root may write anything, and nothing runs with another one's rights."""
    for header in root.headers().values():
        assert (header.uid, header.gid, header.mtime) == (0, 0, MTIME)
        assert header.mode & 0o7022 == 0 or header.issym()
        assert header.isfile() or header.isdir() or header.issym()


def test_there_is_a_place_for_each_mount(root: Product) -> None:
    """The disk is read-only, so the agent could not make them."""
    headers = root.headers()
    assert all(headers[name].isdir() for name in MOUNT_POINTS)


def test_little_of_this_host_goes_in(root: Product) -> None:
    """No build, no tests, and of the standard library what the interpreter starts with."""
    names = set(root.headers())
    library = f"usr/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    assert {f"{library}/os.py", f"{library}/encodings/utf_8.py", "usr/lib/boxlite/guest/agent/main.py"} <= names
    for absent in (
        "usr/lib/boxlite/guest/build",
        "usr/lib/boxlite/proto/boxlite",
        f"{library}/re",
        f"{library}/asyncio",
    ):
        assert absent not in names
    modules = {Path(name).name.partition(".")[0] for name in names if "lib-dynload/" in name}
    assert modules <= set(EXTENSIONS)


def test_compiled_code_does_not_tell_of_the_host(root: Product) -> None:
    """A traceback in the guest shows the guest's paths, and a user's name on the host stays there."""
    compiled = list(root.tree.rglob("*.pyc"))
    assert compiled
    for path in compiled:
        source = path.parent.parent / f"{path.name.split('.')[0]}.py"
        assert marshal.loads(path.read_bytes()[16:]).co_filename == f"/{source.relative_to(root.tree)}"
    for place, _, code, _ in marshal.loads((root.tree / BUNDLE).read_bytes()).values():
        assert (root.tree / place[1:]).is_file()
        assert code is None or code.co_filename == place


def test_two_builds_are_the_same(root: Product, tmp_path: Path) -> None:
    """Byte for byte, whatever the order of hashes; the key is the tar's digest."""
    again = build("root", tmp_path, PYTHONHASHSEED="1", LC_ALL="C", TZ="Asia/Tokyo")
    assert again.tar.read_bytes() == root.tar.read_bytes()
    assert again.record["key"] == hashlib.sha256(root.tar.read_bytes()).hexdigest()


def test_the_record_names_what_went_in(root: Product) -> None:
    """Interpreter, libraries, and the agent's own sources."""
    names = {Path(path).name for path in root.record["files"]}
    assert {"os.py", "libc.so.6", "machine.py", "wire.py"} <= names
    assert str(Path(__file__).parents[2] / "guest") in root.record["directories"]


@pytest.mark.parametrize("part", ["root", "image"])
def test_a_failure_is_one_line_and_leaves_no_output(tmp_path: Path, part: str) -> None:
    """It says what is missing and where to get it; a traceback would hide that."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "guest.build", part, str(tmp_path / "output")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"guest\.build {part}: .* missing: .*Debian package .*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_tar({}, tmp_path / "nowhere" / "root.tar")
    with pytest.raises(FileExistsError, match=re.escape(str(tmp_path))):
        write_layout({}, tmp_path, tag="latest", config={})
