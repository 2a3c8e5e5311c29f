"""The tree that a guest sees of its host, built by a child in namespaces of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.privileges import require_root
from vmm_ffi.spec import ShareSpec

USER = 54321

CHILD = """
import ctypes, errno, json, os, sys
from vmm_ffi.child import forget_the_host
from vmm_ffi.shares.root import ROOT, enter_namespaces, make_root
from vmm_ffi.spec import ShareSpec

before, shares, user, expressions = json.loads(sys.argv[1])
if user is not None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # As after an execve: else /proc/self stays root's (PR_SET_DUMPABLE, prctl(2)).
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
forget_the_host()
enter_namespaces()
exec(before)
make_root([ShareSpec(**share) for share in shares])
os.chdir(ROOT)

def read(path):
    with open(path) as file:
        return file.read()

def write(path, text="written"):
    with open(path, "w") as file:
        file.write(text)

def attempt(expression):
    try:
        return eval(expression)
    except OSError as error:
        return errno.errorcode[error.errno]

print(json.dumps([attempt(expression) for expression in expressions]))
"""


def in_tree(
    shares: list[ShareSpec], expressions: list[str], *, before: str = "", user: int | None = None
) -> tuple[list[Any], str]:
    """What expressions give in the tree, and what the child complains of; `before` runs in its namespaces."""
    described = [{"name": share.name, "path": share.path, "read_only": share.read_only} for share in shares]
    arguments = json.dumps([before, described, user, expressions])
    done = subprocess.run([sys.executable, "-c", CHILD, arguments], capture_output=True, text=True, check=False)
    return (json.loads(done.stdout) if done.returncode == 0 else []), done.stderr


@pytest.fixture
def host() -> Iterator[Path]:
    # Not tmp_path, which lets no other user in.
    with tempfile.TemporaryDirectory(prefix="boxlite-test-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        for name in ("rw", "ro"):
            (path / name).mkdir()
            (path / name / "file").write_text(name)
        (path / "single").write_text("single")
        yield path


def shares_of(host: Path) -> list[ShareSpec]:
    return [
        ShareSpec("v0", str(host / "rw"), read_only=False),
        ShareSpec("v1", str(host / "ro"), read_only=True),
        ShareSpec("v2", str(host / "single"), read_only=True),
        ShareSpec("v3", str(host / "ro"), read_only=False),
    ]


def test_it_has_what_is_shared_and_nothing_else(host: Path) -> None:
    results, _ = in_tree(shares_of(host), ["sorted(os.listdir('.'))", "read('v0/file')", "read('v2')"])
    assert results == [["v0", "v1", "v2", "v3"], "rw", "single"]


def test_what_is_read_only_is_so_for_whoever_serves_it(host: Path) -> None:
    """The same directory may be writable under another name; and nothing is made beside the shares."""
    attempts = ["write('v0/new')", "write('v1/new')", "write('v1/file')", "os.unlink('v1/file')", "write('v2')"]
    attempts += ["os.chmod('v1/file', 0o777)", "os.utime('v1/file')", "os.mkdir('beside')", "write('v3/other')"]
    attempts += ["os.link('v1/file', 'v0/stolen')", "os.rename('v1/file', 'v3/moved')"]
    results, _ = in_tree(shares_of(host), attempts)
    assert results == [None, *["EROFS"] * 7, None, "EXDEV", "EXDEV"]
    assert (host / "rw/new").read_text() == (host / "ro/other").read_text() == "written"
    assert (host / "ro/file").read_text() == "ro"


def test_what_is_mounted_below_is_as_restricted_and_what_comes_later_is_not_seen(host: Path) -> None:
    require_root("mounts")
    (host / "ro/below").mkdir()
    (host / "ro/later").mkdir()
    before = f"""
from vmm_ffi.shares import syscalls
syscalls.mount("below", {str(host / "ro/below")!r}, "tmpfs", 0)
open({str(host / "ro/below/inner")!r}, "w").close()
os.mknod({str(host / "ro/below/null")!r}, 0o20666, os.makedev(1, 3))
"""
    attempts = ["os.listdir('v1/below')", "write('v1/below/new')", "read('v1/below/null')", "write('v3/below/new')"]
    results, complaint = in_tree(shares_of(host), attempts, before=before)
    assert complaint == ""
    assert sorted(results[0]) == ["inner", "null"]
    assert results[1:] == ["EROFS", "EACCES", None]
    assert list((host / "ro/below").iterdir()) == [], "it was mounted for the child alone"


def test_a_link_on_the_way_is_followed_nowhere(host: Path) -> None:
    (host / "link").symlink_to("/etc")
    for path in (host / "link", host / "link/passwd", host / "absent"):
        results, complaint = in_tree([ShareSpec("v0", str(path))], ["1"])
        assert results == []
        assert f"the volume {path}: " in complaint
        assert "has it been moved since the box was created?" in complaint


def test_an_ordinary_user_needs_no_privileges(host: Path) -> None:
    """Of a user namespace of their own, in which they seem to be root, and reach what they reach anyway."""
    require_root("other users")
    (host / "secret").write_text("secret")
    (host / "secret").chmod(0o600)
    for path in (host / "rw", host / "rw/file", host / "ro"):
        os.chown(path, USER, USER)
    results, complaint = in_tree(
        [*shares_of(host), ShareSpec("v4", str(host / "secret"))],
        ["os.geteuid()", "write('v0/new')", "write('v1/new')", "write('v3/new')", "read('v4')"],
        user=USER,
    )
    assert complaint == ""
    assert results == [0, None, "EROFS", None, "EACCES"]
    assert ((host / "rw/new").stat().st_uid, (host / "rw/new").stat().st_gid) == (USER, USER)
