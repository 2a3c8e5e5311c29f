"""The outer machine's /init, a BusyBox script: one writable file system of three disks, and the runner in it."""

from __future__ import annotations

from shlex import quote

_SCRIPT = """\
#!{busybox} sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
b={busybox}
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev 2>/dev/null
exec </dev/null >/dev/hvc0 2>&1
$b mount -t tmpfs -o mode=755,size=90% files /mnt
$b mkdir /mnt/all /mnt/parts /mnt/upper /mnt/work
below=/
for disk in {disks}; do
    $b mkdir /mnt/parts/$disk
    $b mount -t ext4 -o ro /dev/$disk /mnt/parts/$disk
    below=/mnt/parts/$disk:$below
done
$b mount -t overlay -o lowerdir=$below,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/all
cd /mnt/all
$b mkdir -p old
# Not chroot alone: in one, no process may make a user namespace (unshare(2)).
$b pivot_root . old
cd /
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
$b mount -t tmpfs -o mode=1777 shm /dev/shm
# Nothing is mounted on /tmp, where the checkout may be; all is in memory anyway.
$b mkdir -p /tmp
$b chmod 1777 /tmp
$b mount -t tmpfs -o mode=755 run /run
$b mount -t cgroup2 cgroup /sys/fs/cgroup
$b umount -l /old
$b rmdir /old
$b ip link set lo up
$b hostname lab
{python} -ISB {runner}
# The kernel here knows no sysrq, and has no power switch.
$b reboot -f
"""


def init_script(*, busybox: str, python: str, runner: str, disks: int) -> str:
    """Of a machine whose root disk has `disks` others laid over it, the last one on top."""
    names = " ".join(f"vd{chr(ord('b') + number)}" for number in range(disks))
    return _SCRIPT.format(busybox=busybox, python=quote(python), runner=quote(runner), disks=names)
