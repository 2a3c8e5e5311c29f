from __future__ import annotations

import subprocess
import sys


def test_closed_standard_streams_are_filled_so_that_no_other_file_gets_their_place() -> None:
    code = """
import os
from boxlite.cli.standard import open_missing
os.close(0), os.close(2)
open_missing()
before = os.dup(1)
print([os.readlink(f"/proc/self/fd/{number}") for number in (0, 2)], before > 2)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"['/dev/null', '/dev/null'] True\n"
