"""What a Unix socket may be called."""

from __future__ import annotations

import os
from pathlib import Path

from boxlite.errors import SocketPathTooLong
from vmm_ffi.spec import MAX_SOCKET_PATH


def check_socket_path(path: Path) -> None:
    """Raises `SocketPathTooLong` for a path that no Unix socket can have."""
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise SocketPathTooLong(
            f"the socket path {path} has {length} bytes and a Unix socket takes {MAX_SOCKET_PATH}: "
            "set BOXLITE_RUNTIME_DIR, or the runtime_dir of open_runtime, to a shorter directory"
        )
