"""Where a program's shared libraries are."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from typing import Final

_SYSTEM: Final = ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/lib64", "/lib/x86_64-linux-gnu")
_SYSTEM_PROGRAMS: Final = ("/usr/bin", "/bin", "/usr/libexec", "/usr/sbin")
_WHOLE: Final = "/usr/lib"
_CACHE: Final = "/etc/ld.so.cache"


@cache
def library_directories(program: str) -> tuple[str, ...]:
    """Those in which the libraries of a program are, with the loader's.

    A program of the distribution has its libraries where the distribution has all of them; the loader itself is asked
    about any other. Asked once in a process for each program.
    """
    found = [path for path in _SYSTEM if os.path.isdir(path)]
    if not any(path.endswith("-linux-gnu") or (path == "/usr/lib64" and not os.path.islink(path)) for path in found):
        found.append(_WHOLE)
    if os.path.dirname(os.path.realpath(program)) not in _SYSTEM_PROGRAMS:
        found += (path for path in _traced(program) if path not in found)
        found += [_CACHE] if os.path.exists(_CACHE) else []
    return tuple(found)


def _traced(program: str) -> list[str]:
    """Where the loader finds the program's libraries (ld.so(8)); nothing where it does not say."""
    try:
        listed = subprocess.run(
            [program],
            env={"LD_TRACE_LOADED_OBJECTS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=10,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    paths = (line.partition(b" => ")[2].rpartition(b" (")[0] for line in listed.splitlines())
    return list(dict.fromkeys(os.path.dirname(os.fsdecode(path)) for path in paths if path.startswith(b"/")))
