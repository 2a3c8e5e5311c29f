"""The guest's root file system runs the agent, and nothing in it has to be made there."""

import ast
import hashlib
import marshal
import re
import subprocess
import sys
from pathlib import Path

import pytest

from guest.build.archive import write_tar
from guest.build.layout import write_layout
from guest.build.root import INIT, MOUNT_POINTS
from guest.build.tree import MTIME
from tests.guest.build_products import Product, build

AS_INIT = "import sys; sys.path.append('/usr/lib/boxlite'); "


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Product:
    return build("root", tmp_path_factory.mktemp("root"))


def test_the_standard_library_works(root: Product) -> None:
    """From the interpreter's own place, with the C libraries that came along."""
    done = root.run(
        "/usr/bin/python3",
        "-c",
        "import ssl, sqlite3, ctypes, json, bz2, lzma, zlib, hashlib, multiprocessing, curses, decimal, sys;"
        "print(sqlite3.connect(':memory:').execute('select 6 * 7').fetchone()[0], sys.prefix, sys.exec_prefix);"
        "print(ctypes.CDLL(None).getpid() > 0, hashlib.sha256(b'').hexdigest()[:8])",
    )
    assert (done.stdout, done.stderr) == ("42 /usr /usr\nTrue e3b0c442\n", "")


def test_every_module_of_the_agent_can_be_imported(root: Product) -> None:
    """Whatever the agent imports is in the tree: a package that it lacks shows here, not at the boot."""
    done = root.run(
        "/usr/bin/python3",
        "-ISB",
        "-c",
        AS_INIT + "import importlib, pkgutil, guest.agent, proto.boxlite.v1, grpclib.server, multidict\n"
        "names = [m.name for m in pkgutil.walk_packages(guest.agent.__path__, 'guest.agent.')]\n"
        "print([importlib.import_module(name).__file__ for name in names])\n"
        "print([m.__file__ for m in (proto.boxlite.v1, grpclib.server, multidict)])",
    )
    assert done.stderr == ""
    agent, packages = map(ast.literal_eval, done.stdout.splitlines())
    assert "/usr/lib/boxlite/guest/agent/main.py" in agent
    assert all(path.startswith("/usr/lib/boxlite/") for path in agent + packages)


def test_nothing_is_compiled_in_the_guest(root: Product) -> None:
    """The interpreter takes each module that the agent needs from its cache, and says so under -v."""
    done = root.run("/usr/bin/python3", "-ISBv", "-c", AS_INIT + "import asyncio, proto.boxlite.v1, grpclib.server")
    assert done.returncode == 0
    assert len(re.findall(r"\.pyc matches ", done.stderr)) > 100
    assert re.findall(r"^# code object from .*\.py'?$", done.stderr, re.MULTILINE) == []
    assert "bytecode is stale" not in done.stderr


def test_init_calls_the_agent(root: Product) -> None:
    """The kernel starts /init by its first line, with no environment to speak of."""
    done = root.run(
        "/usr/bin/python3",
        "-ISB",
        "-c",
        "import sys, types; agent = types.ModuleType('guest.agent.main'); agent.main = lambda: print(sys.path[-1]);"
        "sys.modules |= {'guest': agent, 'guest.agent': agent, 'guest.agent.main': agent}; exec(open('/init').read())",
    )
    assert (done.stdout, done.stderr) == ("/usr/lib/boxlite\n", "")
    assert INIT.startswith("#!/usr/bin/python3 -I")
    assert (root.tree / "init").read_text() == INIT
    assert (root.tree / "init").stat().st_mode & 0o777 == 0o755


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


def test_the_build_and_the_tests_stay_outside(root: Product) -> None:
    names = set(root.headers())
    version = f"usr/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    assert {f"{version}/os.py", f"{version}/asyncio/base_events.py", "usr/lib/boxlite/guest/__init__.py"} <= names
    for absent in ("usr/lib/boxlite/guest/build", f"{version}/test", f"{version}/idlelib", f"{version}/site-packages"):
        assert absent not in names


def test_compiled_code_does_not_tell_of_the_host(root: Product) -> None:
    """A traceback in the guest shows the guest's paths, and a user's name on the host stays there."""
    compiled = list(root.tree.rglob("*.pyc"))
    assert len(compiled) > 500
    for path in compiled:
        source = path.parent.parent / f"{path.name.split('.')[0]}.py"
        assert marshal.loads(path.read_bytes()[16:]).co_filename == f"/{source.relative_to(root.tree)}"


def test_two_builds_are_the_same(root: Product, tmp_path: Path) -> None:
    """Byte for byte, whatever the order of hashes; the key is the tar's digest."""
    again = build("root", tmp_path, PYTHONHASHSEED="1", LC_ALL="C", TZ="Asia/Tokyo")
    assert again.tar.read_bytes() == root.tar.read_bytes()
    assert again.record["key"] == hashlib.sha256(root.tar.read_bytes()).hexdigest()


def test_the_record_names_what_went_in(root: Product) -> None:
    """Interpreter, libraries, packages, and the agent's own sources."""
    names = {Path(path).name for path in root.record["files"]}
    assert {"os.py", "libc.so.6", "RECORD", "METADATA", "message_pool.py"} <= names
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
