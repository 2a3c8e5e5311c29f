from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_ffi.kernel import Image, KernelError, main, wrap

ENTRY = bytes.fromhex("fc8b038d6304e8000000005d8903")
LOAD = 0x1000000

# Too short to hold the entry by chance.
padding = st.binary(max_size=13)


@given(padding, padding)
def test_a_kernel_becomes_an_elf_file_that_names_both_of_its_entries(before: bytes, after: bytes) -> None:
    """Read back by the offsets that elf(5) gives."""
    image = before + ENTRY + after
    elf = wrap(Image(image, LOAD, LOAD + 7))
    assert elf[:6] == b"\x7fELF\x02\x01"
    entry, headers = struct.unpack_from("<QQ", elf, 24)
    assert entry == LOAD + 7
    kind, _, offset, _, address, size = struct.unpack_from("<IIQQQQ", elf, headers)
    assert (kind, address) == (1, LOAD)
    assert elf[offset : offset + size] == image
    kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", elf, headers + 56)
    assert kind == 4
    assert elf[offset : offset + size] == struct.pack("<III4sQ", 4, 8, 18, b"Xen", LOAD + len(before))


@given(padding, st.sampled_from([0, 2, 3]))
def test_a_kernel_without_exactly_one_entry_is_refused(around: bytes, entries: int) -> None:
    with pytest.raises(KernelError, match=f"has {entries} PVH entries instead of one"):
        wrap(Image(around + entries * (ENTRY + around), LOAD, LOAD))


@pytest.mark.parametrize("library", ["libc.so.6", "/nowhere/libkrunfw.so.5"])
def test_a_library_without_a_kernel_is_a_clear_error(
    library: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([library, str(tmp_path / "kernel")]) == 1
    assert capsys.readouterr().err.startswith(f"{library}: cannot be used as libkrunfw: ")
    assert list(tmp_path.iterdir()) == []


def test_missing_arguments_are_told_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-m", "vmm_ffi.kernel"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: python -m vmm_ffi.kernel LIBRARY OUTPUT\n")
