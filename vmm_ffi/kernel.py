"""Takes the Linux kernel out of libkrunfw, as an ELF file that both engines boot.

`python -m vmm_ffi.kernel LIBRARY OUTPUT`

libkrunfw is a shared library whose only content is a kernel image. Loading it runs code of whoever built it, so this
happens in a child process of its own, never in the host's.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Any

import attrs
import cffi

_PVH_ENTRY = bytes.fromhex("fc 8b 03 8d 63 04 e8 00 00 00 00 5d 89 03")
"""The first instructions of `pvh_start_xen` (Linux, arch/x86/platform/pvh/head.S).

cld; mov (%ebx),%eax; lea 4(%ebx),%esp; call next; next: pop %ebp; mov %eax,(%ebx)
"""

# elf(5)
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III4sQ")
_ELF_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_ET_EXEC, _EM_X86_64, _PT_LOAD, _PT_NOTE, _PF_RWX, _PF_R = 2, 62, 1, 4, 7, 4
_XEN_ELFNOTE_PHYS32_ENTRY = 18

_DECLARATIONS = "char *krunfw_get_kernel(uint64_t *load, uint64_t *entry, size_t *size);"


class KernelError(Exception):
    """The library holds no kernel that can be booted by PVH."""


@attrs.frozen
class Image:
    """A kernel as libkrunfw has it."""

    content: bytes
    load_address: int
    entry: int
    """Where its code for 64-bit mode begins."""


def wrap(kernel: Image) -> bytes:
    """An ELF file with the image as its one segment, its 64-bit entry, and a note that names its PVH entry.

    QEMU boots by the note (PVH begins in 32-bit mode); libkrun by the note or, in versions that do not know it, by the
    entry.

    Raises `KernelError` unless the entry's instructions are in the image exactly once.
    """
    image, load_address = kernel.content, kernel.load_address
    matches = image.count(_PVH_ENTRY)
    if matches != 1:
        raise KernelError(f"its kernel has {matches} PVH entries instead of one: not built with CONFIG_PVH, or unknown")
    pvh_entry = load_address + image.index(_PVH_ENTRY)
    note = _NOTE.pack(4, 8, _XEN_ELFNOTE_PHYS32_ENTRY, b"Xen\0", pvh_entry)
    headers_size = _ELF_HEADER.size + 2 * _PROGRAM_HEADER.size
    image_offset = 0x1000
    header = _ELF_HEADER.pack(
        _ELF_IDENT,
        _ET_EXEC,
        _EM_X86_64,
        1,
        kernel.entry,
        _ELF_HEADER.size,
        0,
        0,
        _ELF_HEADER.size,
        _PROGRAM_HEADER.size,
        2,
        0,
        0,
        0,
    )
    load = _PROGRAM_HEADER.pack(
        _PT_LOAD, _PF_RWX, image_offset, load_address, load_address, len(image), len(image), 0x1000
    )
    notes = _PROGRAM_HEADER.pack(_PT_NOTE, _PF_R, headers_size, 0, 0, len(note), len(note), 4)
    return (header + load + notes + note).ljust(image_offset, b"\0") + image


def image_of(library: str) -> Image:
    """The kernel in libkrunfw; raises `KernelError`."""
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    try:
        loaded: Any = ffi.dlopen(library)
        get_kernel = loaded.krunfw_get_kernel
    except (OSError, AttributeError) as error:
        raise KernelError(f"cannot be used as libkrunfw: {error}") from error
    load, entry, size = ffi.new("uint64_t *"), ffi.new("uint64_t *"), ffi.new("size_t *")
    # Sound for any library that keeps libkrunfw's ABI: it fills the three numbers in and returns a pointer to `size`
    # readable bytes of its own, which live as long as the library is mapped.
    start = get_kernel(load, entry, size)
    if start == ffi.NULL or size[0] == 0:
        raise KernelError("returns no kernel")
    return Image(bytes(ffi.buffer(start, size[0])), int(load[0]), int(entry[0]))


def extract(library: str, output: str) -> None:
    """Writes the kernel of `library` to the new file `output`; raises `KernelError` or OSError.

    The caller gives a temporary name, and renames the file when this has succeeded.
    """
    elf = wrap(image_of(library))
    with open(output, "xb") as file:
        file.write(elf)
        file.flush()
        os.fsync(file.fileno())


def main(arguments: list[str]) -> int:
    """Exit status 0, or 1 with one line on standard error."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m vmm_ffi.kernel LIBRARY OUTPUT\n")
        return 2
    library, output = arguments
    try:
        extract(library, output)
    except (KernelError, OSError) as error:
        sys.stderr.write(f"{library}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
