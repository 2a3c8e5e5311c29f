"""What lies on the outer machine's disks: the system below, what it boots boxes from, and this checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from boxlite.programs import find_program
from boxlite.vmm.facts import find_virtiofsd
from guest.build import libraries
from lab.errors import LabUnavailable
from lab.hosttree import HostTree

CHECKOUT = Path(__file__).resolve().parents[1]

EXTRAS = frozenset({"krun", "testing", "lab"})
"""The extras of the project whose distributions come along. What checks and builds the source stays behind."""

PROGRAMS = ("busybox", "mke2fs", "e2fsck")
OPTIONAL_PROGRAMS = ("bwrap",)

LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64")
"""Where libseccomp is, which no program of these is linked to: a jail's filters are made with it."""
"""What is used where it is there."""

APPLETS = "/usr/lib/busybox"
"""Where BusyBox has a name for each of its programs."""

_ELF = b"\x7fELF"
_SYSTEM_FILES = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "mke2fs.conf", "hosts", "localtime")
_MOUNT_POINTS = ("proc", "sys", "dev", "run", "tmp", "mnt", "root")
_NOT_OF_THE_SOURCE = frozenset(
    {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache"}
    | {"build", "dist", "node_modules"}
)
_LEFT_OUT = frozenset({"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages"})
"""Of the standard library: what `guest.build` has no use for either."""


def busybox() -> Path:
    """The program itself, no link to it; raises `LabUnavailable`."""
    found = find_program("busybox")
    if found is None:
        raise LabUnavailable("busybox is missing: run make setup")
    return Path(found).resolve()


def system(init: str) -> HostTree:
    """Python, the environment that runs this, programs and libraries, and the machine's /init."""
    tree = HostTree()
    for name in _MOUNT_POINTS:
        tree.make_directory(f"/{name}")
    tree.make("/init", init.encode(), 0o755)
    for name in _SYSTEM_FILES:
        if (path := Path("/etc", name)).exists():
            tree.add(path)
    _add_shell(tree)
    binaries = [*_add_python(tree), *_add_environment(tree), *_add_programs(tree)]
    for needs in libraries.needs(dict.fromkeys(binaries)).values():
        for path in (*needs.libraries.values(), *([needs.loader] if needs.loader else [])):
            tree.add(path)
    tree.add(libraries.unwinder())
    for folder in LIBRARIES:
        if (filters := Path(folder, "libseccomp.so.2")).exists():
            tree.add(filters)
    return tree


def checkout() -> HostTree:
    """This checkout, without its history and its environment."""
    tree = HostTree()
    tree.add_below(CHECKOUT, lambda path: path.parent == CHECKOUT and path.name in _NOT_OF_THE_SOURCE)
    return tree


def home(directories: Iterable[Path]) -> HostTree:
    """What boxes are made of, and the files that it was made of: where one is missing, it would be made anew.

    That of a checkout which has gone, or was moved, is of no use any more.
    """
    tree = HostTree()
    for directory in directories:
        tree.add_below(directory)
        for record in directory.glob("*.json"):
            for path in json.loads(record.read_bytes())["files"]:
                if os.path.lexists(path):
                    tree.add(Path(path))
    return tree


def files(directories: Iterable[Path]) -> HostTree:
    """Some directories, whole."""
    tree = HostTree()
    for directory in directories:
        tree.add_below(directory)
    return tree


def _add_python(tree: HostTree) -> list[Path]:
    stdlib = Path(sysconfig.get_path("stdlib"))
    tree.add_below(stdlib, lambda path: path.name in _LEFT_OUT or path.suffix == ".a")
    for archive in stdlib.glob("config-*/*.a"):
        # Nobody reads these 40 MB, but the directory's listing is compared.
        tree.make(str(archive), b"")
    binary = Path(sys.base_exec_prefix, "bin", stdlib.name)
    tree.add(binary)
    return [binary, *stdlib.glob("lib-dynload/*.so")]


def _add_environment(tree: HostTree) -> list[Path]:
    prefix = Path(sys.prefix)
    if sys.prefix == sys.base_prefix:
        raise LabUnavailable("the lab takes the virtual environment along that it runs in: use that of `make setup`")
    tree.add(prefix / "pyvenv.cfg")
    for path in (prefix / "bin").glob("python*"):
        if path.is_symlink():
            tree.add(path)
    binaries: list[Path] = []
    caches: set[Path] = set()
    for found in _distributions():
        for file in found.files or ():
            path = Path(os.path.normpath(str(found.locate_file(file))))
            if path.is_relative_to(prefix) and path.exists():
                tree.add(path)
                binaries += [path] if _is_binary(path) else []
                if path.suffix == ".py":
                    caches.add(path.parent / "__pycache__")
    # Pytest compiles some in its own way, of which no package knows.
    for cache in caches:
        if cache.is_dir():
            tree.add_below(cache)
    return binaries


def _is_binary(path: Path) -> bool:
    """Whether it is a library, or a program that is no script."""
    if path.suffix:
        return ".so" in path.suffixes
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF


def _distributions() -> list[Distribution]:
    """The project's own, with all that those extras need."""
    found: dict[str, Distribution] = {}
    pending = [("boxlite-trio", EXTRAS)]
    while pending:
        name, extras = pending.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise LabUnavailable(f"the Python package {name} is missing: run make setup") from None
        for text in found[name].requires or ():
            requirement = Requirement(text)
            wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if requirement.marker is None or any(map(requirement.marker.evaluate, wanted)):
                pending.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return list(found.values())


def _add_shell(tree: HostTree) -> None:
    """/bin/sh and what else BusyBox is, wherever the host's own programs are not taken along."""
    path = busybox()
    # Where /bin is a link, as on most hosts, it is one there too.
    tree.add(Path("/bin"))
    for applet in subprocess.run([path, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            tree.make_link(f"{APPLETS}/{applet}", str(path))
    tree.make_link("/bin/sh", str(path))


def _add_programs(tree: HostTree) -> list[Path]:
    added = []
    if (virtiofsd := find_virtiofsd()) is not None:
        tree.add(virtiofsd)
        added.append(virtiofsd.resolve())
    for name in (*PROGRAMS, *OPTIONAL_PROGRAMS):
        program = find_program(name)
        if program is not None:
            tree.add(Path(program))
            added.append(Path(program).resolve())
        elif name in PROGRAMS:
            raise LabUnavailable(f"{name} is missing: run make setup")
    return added
