"""A digest of a file that is mostly holes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from boxlite.images.sparse import data_ranges

_BLOCK: Final = 64 << 10
_ZEROS: Final = bytes(_BLOCK)


def digest_file(path: Path, *, check: Callable[[], None] = lambda: None) -> str:
    """Of the content alone: holes and written zeros are the same, so a copy has the digest of its original.

    Skips holes, and so takes time for what the file occupies. Calls `check` for each block. Raises OSError.
    """
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb", buffering=0) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        digest.update(size.to_bytes(8, "big"))
        done = 0
        for start, end in data_ranges(fd):
            # Blocks are counted from the start of the file, wherever its data begins.
            for position in range(max(done, start - start % _BLOCK), end, _BLOCK):
                check()
                block = os.pread(fd, _BLOCK, position)
                if block != _ZEROS[: len(block)]:
                    digest.update(position.to_bytes(8, "big"))
                    digest.update(block)
                done = position + _BLOCK
    return digest.hexdigest()
