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
from typing import Any

import cffi

from benchmarks.bare.guest import PORT, make_disk
from benchmarks.peers import figures
from benchmarks.peers.figures import EXECUTIONS, STREAM, STREAM_BYTES, Clock, Stream

READY, ANSWER = b"ready\n", b"x\n"
_PIECE = 64 * 1024

SCRIPT = f"""#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for port in /sys/class/virtio-ports/*; do
    [ "$(cat $port/name 2>/dev/null)" = {PORT} ] && exec 3<>/dev/${{port##*/}}
done
echo ready >&3
while read command <&3; do
    case $command in
        # By its path, so that the shell forks and executes it.
        true) /bin/true; echo x >&3 ;;
        out) {" ".join(STREAM)} >&3 2>/dev/null ;;
        off) reboot -f ;;
    esac
done
"""

_DECLARATIONS = """
int32_t krun_create_ctx(void);
int32_t krun_set_vm_config(uint32_t ctx, uint8_t cpus, uint32_t mib);
int32_t krun_set_kernel(uint32_t ctx, const char *path, uint32_t format, const char *initramfs, const char *arguments);
int32_t krun_add_disk(uint32_t ctx, const char *name, const char *path, bool read_only);
int32_t krun_add_virtio_console_multiport(uint32_t ctx);
int32_t krun_add_console_port_inout(uint32_t ctx, uint32_t console, const char *name, int input, int output);
int32_t krun_start_enter(uint32_t ctx);
"""
_ARGUMENTS = "console=hvc0 root=/dev/vda ro init=/init reboot=k panic=-1 quiet no-kvmapf"
_ELF = 1


def enter(library: str, kernel: str, disk: str) -> None:
    """Turns this process into the machine, whose port is standard input and output."""
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    krun: Any = ffi.dlopen(library, os.RTLD_LAZY)
    context = krun.krun_create_ctx()
    results = [
        krun.krun_set_vm_config(context, 1, figures.MEMORY_MIB),
        krun.krun_set_kernel(context, kernel.encode(), _ELF, ffi.NULL, _ARGUMENTS.encode()),
        krun.krun_add_disk(context, b"root", disk.encode(), True),
        console := krun.krun_add_virtio_console_multiport(context),
        # The first port is the console.
        krun.krun_add_console_port_inout(context, console, b"console", -1, 2),
        krun.krun_add_console_port_inout(context, console, PORT.encode(), 0, 1),
        krun.krun_start_enter(context),
    ]
    raise SystemExit(f"libkrun refuses: {context}, {results}")


class Machine:
    """A machine that has said that it is ready."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.bare_libkrun", "enter", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
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
def boot(arguments: tuple[str, ...]) -> Iterator[Machine]:
    """Leaving the block ends it."""
    machine = Machine(arguments)
    try:
        yield machine
    finally:
        machine.process.kill()
        machine.process.wait()


def measure(arguments: tuple[str, ...]) -> None:
    """All figures but that of a client, which is this script."""
    clock = Clock()
    with boot(arguments) as machine:
        clock.emit(figures.FIRST)
        for _ in range(EXECUTIONS):
            one = Clock()
            machine.tell(b"true")
            assert machine.read_line() == ANSWER
            one.emit(figures.EXEC)
        stream = Stream()
        machine.tell(b"out")
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
    with boot(arguments):
        clock.emit(figures.SECOND)


def main() -> None:
    """Without `enter`, makes what the machine needs, and measures."""
    if sys.argv[1] == "enter":
        enter(*sys.argv[2:])
    spec = find_spec("smol")
    (folder,) = (spec and spec.submodule_search_locations) or [""]
    library = os.path.join(folder, "libkrun.so")
    with tempfile.TemporaryDirectory() as directory:
        kernel, disk = Path(directory, "kernel.elf"), Path(directory, "root.ext4")
        firmware = next(Path(folder).glob("libkrunfw.so.*"))
        subprocess.run([sys.executable, "-m", "vmm_ffi.kernel", firmware, kernel], check=True)
        make_disk(disk, SCRIPT)
        measure((library, str(kernel), str(disk)))


if __name__ == "__main__":
    main()
