"""A tiny guest for tests that need a kernel and a shell, but no agent: BusyBox, and a script chosen by name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
export PATH=/bin
for word in $(cat /proc/cmdline); do
    case $word in test.script=*) . /scripts/${word#test.script=} ;; esac
done
echo "guest: done"
reboot -f
"""

SCRIPTS = {
    "hello": "echo guest: hello",
    # What a guest with a name for each device sees of its machine.
    "devices": """
for disk in /sys/block/vd*; do echo "disk $(basename $disk) $(cat $disk/serial) ro=$(cat $disk/ro)"; done
for port in /sys/class/virtio-ports/*; do [ -e $port/name ] && echo "port $(cat $port/name)"; done
echo "random $(cat /sys/class/misc/hw_random/rng_current)"
echo "processors $(nproc)"
for net in /sys/class/net/*; do [ -e $net/device ] && echo "network $(basename $net)"; done
dd if=/dev/vdb bs=6 count=1 2>/dev/null; echo
echo changed | dd of=/dev/vdb 2>/dev/null && echo "the read-only disk was written"
printf written | dd of=/dev/vdc conv=fsync 2>/dev/null
""",
    "echo": """
for port in /sys/class/virtio-ports/*; do
    [ "$(cat $port/name 2>/dev/null)" = org.boxlite.2695 ] || continue
    # A port opens once at a time.
    exec 3<>/dev/$(basename $port)
    cat <&3 >&3
done
""",
    # Takes most of the memory, and gives it back to the kernel.
    "memory": """
mount -t tmpfs files /files
dd if=/dev/zero of=/files/much bs=1M count=64 2>/dev/null
rm /files/much
echo "guest: empty"
sleep 1000
""",
    "flood": r"yes $(printf '\033[31mflood\007')",
    "wait": "echo guest: waiting; sleep 1000",
    # What it shall do is in the first share.
    "shares": "mount -t virtiofs boxlite /files && . /files/v0/attack.sh",
}

_APPLETS = (
    *("basename", "cat", "chmod", "chown", "cp", "dd", "grep", "ln", "ls", "mknod", "mount", "mv", "nproc", "printf"),
    *("reboot", "rm", "sh", "sleep", "yes"),
)


def make_disk(path: Path, work: Path, *, init: str | None = INIT) -> Path:
    """An ext4 disk at `path`, made in the empty directory `work`; without `init`, one that cannot boot."""
    for folder in ("bin", "dev", "files", "proc", "scripts", "sys"):
        (work / folder).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None, "the tests need busybox-static"
    shutil.copy(busybox, work / "bin/busybox")
    for applet in _APPLETS:
        (work / "bin" / applet).symlink_to("busybox")
    for name, script in SCRIPTS.items():
        (work / "scripts" / name).write_text(script)
    if init is not None:
        (work / "init").write_text(init)
        (work / "init").chmod(0o755)
    mke2fs = shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert mke2fs is not None, "the tests need e2fsprogs"
    subprocess.run([mke2fs, "-q", "-t", "ext4", "-d", work, path, "8M"], check=True, capture_output=True)
    return path
