"""What a bare machine boots: BusyBox on a small disk, and a script as its process 1 that answers on a port."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from boxlite.programs import find_program

PORT: Final = "org.boxlite.bench"
"""The name of the virtio-serial port on which the script answers."""

CHUNK: Final = 64 * 1024
"""Bytes that `dd` moves at once."""

READY: Final = b"ready\n"
"""The script's first line."""

_DIRECTORIES: Final = ("bin", "dev", "mnt", "proc", "sys")

FIND_PORT: Final = f"""#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for port in /sys/class/virtio-ports/*; do
    [ "$(cat $port/name 2>/dev/null)" = {PORT} ] && exec 3<>/dev/${{port##*/}}
done
"""
"""The beginning of a script: descriptor 3 leads to the port."""

ANSWERING: Final = (
    FIND_PORT
    + f"""
echo ready >&3
while read command count <&3; do
    case $command in
        # By its path, so that the shell forks and executes it.
        echo) /bin/echo x >&3 ;;
        out) dd if=/dev/zero bs={CHUNK} count=$count >&3 2>/dev/null ;;
        in) dd of=/dev/null bs={CHUNK} count=$count iflag=fullblock <&3 2>/dev/null; echo done >&3 ;;
        off) reboot -f ;;
    esac
done
"""
)
"""Does what each line says that comes in, once: a command, and of a stream, how many times `CHUNK` it has."""

BARE_STARTS: Final = 3

PYTHON_FIRST: Final = "bench.python"
"""On the kernel's command line: `TIMING_AGENT` starts a bare interpreter, and nothing else."""

PYTHON_BEFORE: Final = "bench.warm"
"""The same: it reads all files and starts `BARE_STARTS` bare interpreters, and one before, and then the agent."""

TIMING_AGENT: Final = (
    FIND_PORT
    + f"""
mount -t ext4 -o ro /dev/vdb /mnt
bare() {{ echo begin >&3; chroot /mnt /usr/bin/python3 -I -S -c pass; echo end >&3; }}
if grep -q {PYTHON_FIRST} /proc/cmdline; then
    bare
    sleep 1000
fi
if grep -q {PYTHON_BEFORE} /proc/cmdline; then
    find /mnt -type f -exec cat {{}} + >/dev/null
    chroot /mnt /usr/bin/python3 -I -S -c pass
    for round in $(seq {BARE_STARTS}); do bare; done
fi
echo begin >&3
exec 3>&-
exec chroot /mnt /init
"""
)
"""Becomes the agent of the guest's own root (the second disk), unless the kernel's command line says something else.

Says `begin` before it starts an interpreter, and `end` after a bare one.
"""


def make_disk(path: Path, script: str) -> Path:
    """A root disk with this script as `/init`, written to `path`. Needs busybox-static and e2fsprogs."""
    root = path.with_suffix(".root")
    for directory in _DIRECTORIES:
        (root / directory).mkdir(parents=True)
    shutil.copy(find_installed("busybox", "busybox-static"), root / "bin/busybox")
    for applet in subprocess.run([root / "bin/busybox", "--list"], check=True, capture_output=True).stdout.split():
        if applet != b"busybox":
            (root / "bin" / applet.decode()).symlink_to("busybox")
    (root / "init").write_text(script)
    (root / "init").chmod(0o755)
    mke2fs = find_installed("mke2fs", "e2fsprogs")
    subprocess.run([mke2fs, "-q", "-t", "ext4", "-d", root, path, "8M"], check=True, capture_output=True)
    return path


def find_installed(name: str, package: str) -> str:
    """The path of a program; raises FileNotFoundError, which names the package that it comes in."""
    found = find_program(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: install {package}")
    return found
