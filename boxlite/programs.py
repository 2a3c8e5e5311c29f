"""Where programs of the system are found."""

from __future__ import annotations

import os
import shutil

SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin")


def find_program(name: str) -> str | None:
    """The path of a program; system administration programs are not in every user's PATH, but are found too."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_DIRECTORIES)))
