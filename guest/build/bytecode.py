"""Compiles the modules of a tree, because compiling in the guest is slow, and its disk is read-only."""

from __future__ import annotations

import importlib.util
import marshal
import struct
import sys
import warnings
from pathlib import PurePosixPath

from guest.build.tree import MTIME, File, Tree


def compiled(tree: Tree) -> Tree:
    """The `__pycache__` entries for every Python source of `tree`.

    They hold the sources' paths in the guest, not those on this host. A source that does not compile (some are meant
    for other versions) gets none.
    """
    entries: Tree = {}
    for path, node in sorted(tree.items()):
        if path.endswith(".py") and isinstance(node, File):
            code = _compile(node.content, f"/{path}")
            if code is not None:
                entries[_cached(path)] = File(code)
    return entries


def _cached(path: str) -> str:
    """As `importlib.util.cache_from_source`, which would heed the PYTHONPYCACHEPREFIX of this host."""
    source = PurePosixPath(path)
    return str(source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc")


def _compile(source: bytes, path: str) -> bytes | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        except (SyntaxError, ValueError):
            return None
    return _header(source) + marshal.dumps(code)


def _header(source: bytes) -> bytes:
    """PEP 552: magic, flags 0 (valid while the source's time and size are these), time, size."""
    return importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, MTIME, len(source) & 0xFFFFFFFF)
