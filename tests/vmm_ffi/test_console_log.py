"""The bounded file of a kept machine's console."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from vmm_ffi import console_log
from vmm_ffi.console_log import ConsoleLog
from vmm_ffi.files import write_at
from vmm_ffi.spec import CONSOLE_BYTES

# Sizes around the bounds, of chunks as a pipe gives them.
sizes = st.lists(st.integers(1, 64 * 1024) | st.sampled_from([1, 65535, 65536]), max_size=12)


def chunks_of(lengths: list[int]) -> list[bytes]:
    """Chunks of those lengths in which any two places differ."""
    numbers = itertools.count()
    return [b"".join(b"%07d\n" % next(numbers) for _ in range(length // 8 + 1))[:length] for length in lengths]


@given(sizes)
def test_the_file_ends_as_the_console_did_and_stays_within_its_bound(lengths: list[int]) -> None:
    with tempfile.TemporaryFile() as file:
        log, printed = ConsoleLog(file.fileno()), b""
        for chunk in chunks_of(lengths):
            log.append(chunk)
            printed += chunk
            content = os.pread(file.fileno(), 4 * CONSOLE_BYTES, 0)
            assert len(content) <= 2 * CONSOLE_BYTES
            assert printed.endswith(content)
            assert len(content) >= min(len(printed), CONSOLE_BYTES)


@given(sizes, st.data())
def test_what_could_not_be_written_comes_with_what_can_be(lengths: list[int], data: st.DataObject) -> None:
    """Writes that fail, or fail half-way, raise nothing; the first that succeeds mends the file."""

    def sometimes(descriptor: int, content: bytes | bytearray, offset: int) -> int:
        if data.draw(st.booleans(), label="full"):
            write_at(descriptor, bytes(content[: data.draw(st.integers(0, len(content)))]), offset)
            raise OSError(errno.ENOSPC, "full")
        return write_at(descriptor, content, offset)

    with tempfile.TemporaryFile() as file:
        log, printed = ConsoleLog(file.fileno()), b""
        with mock.patch.object(console_log, "write_at", sometimes):
            for chunk in chunks_of(lengths):
                log.append(chunk)
                printed += chunk
                assert os.fstat(file.fileno()).st_size <= 3 * CONSOLE_BYTES
        log.append(b"last words")
        content = os.pread(file.fileno(), 4 * CONSOLE_BYTES, 0)
        assert (printed + b"last words").endswith(content)
        assert len(content) >= min(len(printed), CONSOLE_BYTES)
