"""libkrun driven by a script of its own, without a jail, an agent or a container: the limit for whoever uses it.

The machine is BusyBox on a small disk, whose script answers on a port of it; the kernel is libkrunfw's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from benchmarks.bare.guest import ANSWERING, CHUNK, PORT, READY, make_disk
from benchmarks.bare.krun_description import KERNEL_ARGUMENTS, Description, command_line
from benchmarks.peers import figures
from benchmarks.peers.figures import EXECUTIONS, STREAM_BYTES, Clock, Stream

ANSWER = b"x\n"
_PIECE = 64 * 1024


class Machine:
    """A machine that has said that it is ready."""

    def __init__(self, description: Description) -> None:
        self.process = subprocess.Popen(command_line(description), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        while not (line := self.read_line()).endswith(READY):
            sys.stderr.buffer.write(line)

    def tell(self, command: bytes) -> None:
        """One line to the script."""
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), command + b"\n")

    def read(self) -> bytes:
        """Some output; raises EOFError at its end."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), _PIECE)
        if not data:
            raise EOFError(f"the bare machine ended with status {self.process.wait()}")
        return data

    def read_line(self) -> bytes:
        """Output up to the end of a line; no more is on its way then."""
        line = b""
        while not line.endswith(b"\n"):
            line += self.read()
        return line


@contextmanager
def boot(description: Description) -> Iterator[Machine]:
    """Leaving the block ends it."""
    machine = Machine(description)
    try:
        yield machine
    finally:
        machine.process.kill()
        machine.process.wait()


def measure(description: Description) -> None:
    """All figures but that of a client, which is this script."""
    clock = Clock()
    with boot(description) as machine:
        clock.emit(figures.FIRST)
        for _ in range(EXECUTIONS):
            one = Clock()
            machine.tell(b"echo")
            assert machine.read_line() == ANSWER
            one.emit(figures.EXEC)
        stream = Stream()
        machine.tell(b"out %d" % (STREAM_BYTES // CHUNK))
        left = STREAM_BYTES
        while left:
            piece = machine.read()
            stream.take(len(piece))
            left -= len(piece)
        stream.emit()
        figures.emit_memory()
        stop = Clock()
        machine.tell(b"off")
        machine.process.wait()
        stop.emit(figures.STOP)
    clock = Clock()
    with boot(description):
        clock.emit(figures.SECOND)


def main() -> None:
    """Makes what the machine needs, and measures."""
    spec = find_spec("smol")
    (folder,) = (spec and spec.submodule_search_locations) or [""]
    library = os.path.join(folder, "libkrun.so")
    with tempfile.TemporaryDirectory() as directory:
        kernel, disk = Path(directory, "kernel.elf"), Path(directory, "root.ext4")
        firmware = next(Path(folder).glob("libkrunfw.so.*"))
        subprocess.run([sys.executable, "-m", "vmm_ffi.kernel", firmware, kernel], check=True)
        make_disk(disk, ANSWERING)
        measure(
            Description(
                library=library,
                kernel=str(kernel),
                kernel_arguments=KERNEL_ARGUMENTS,
                memory_mib=figures.MEMORY_MIB,
                disks=[str(disk)],
                port=PORT,
                vsock=[],
            )
        )


if __name__ == "__main__":
    main()
