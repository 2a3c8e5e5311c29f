"""What this host offers for a jail: found out here, judged in `boxlite.vmm.jail`."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from boxlite.printable import printable
from boxlite.programs import find_program
from vmm_ffi.spec import FIRST_JAIL_UID, JAIL_GID

INSTALL_BUBBLEWRAP: Final = "apt-get install bubblewrap"
INSTALL_SECCOMP: Final = "apt-get install libseccomp2"

CONTROLLERS: Final = frozenset({"cpu", "memory", "pids"})

_LIBSECCOMP = "libseccomp.so.2"
_ROOT_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_FOWNER": 3,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
}
_TOP = ("/bin", "/lib", "/lib64", "/sbin")
_SOME_WORDS = 300
_JUST_MADE_SECONDS = 60.0


@attrs.frozen
class JailFacts:
    """Findings. Of each pair, the problem is None where there is none."""

    bwrap: str | None
    namespaces_problem: str | None
    user_problem: str | None
    """Why a machine that root starts cannot be another user's; an ordinary user's machine is that user's."""
    seccomp_problem: str | None
    cgroup: str | None
    """A directory below which machines can have groups."""
    cgroup_problem: str | None


async def gather_jail_facts() -> JailFacts:
    """Looks at this host, and changes nothing."""
    bwrap = find_program("bwrap")
    user_problem = _user_problem() if os.geteuid() == 0 else None
    cgroup, cgroup_problem = _find_group()
    return JailFacts(
        bwrap=bwrap,
        namespaces_problem=await _namespaces_problem(bwrap, drop=os.geteuid() == 0 and user_problem is None),
        user_problem=user_problem,
        seccomp_problem=_seccomp_problem(),
        cgroup=cgroup,
        cgroup_problem=cgroup_problem,
    )


async def _namespaces_problem(bwrap: str | None, *, drop: bool) -> str | None:
    if bwrap is None:
        return "bubblewrap is not installed"
    user: dict[str, Any] = {"user": FIRST_JAIL_UID, "group": JAIL_GID, "extra_groups": []} if drop else {}
    try:
        done = await trio.run_process(
            [bwrap, *_trial(), "--", bwrap, "--version"],
            check=False,
            stdout=subprocess.DEVNULL,
            capture_stderr=True,
            cwd="/",
            **user,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{bwrap} cannot be run: {error}"
    if done.returncode == 0:
        return None
    words = printable(done.stderr[:_SOME_WORDS].strip()) or f"status {done.returncode}"
    return f"bubblewrap makes no namespaces here: {words}"


def _trial() -> list[str]:
    """What every machine asks of bubblewrap, over the programs of this host."""
    arguments = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--as-pid-1"]
    arguments += [
        "--die-with-parent",
        "--hostname",
        "box",
        "--ro-bind",
        "/usr",
        "/usr",
        "--dev-bind",
        "/dev/null",
        "/dev/null",
    ]
    for path in _TOP:
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            arguments += ["--ro-bind", path, path]
    return [*arguments, "--remount-ro", "/"]


def _user_problem() -> str | None:
    have = _capabilities()
    lacking = [name for name, number in _ROOT_CAPABILITIES.items() if not have >> number & 1]
    if lacking:
        return f"root has no {', '.join(lacking)} here"
    if not _is_mapped(FIRST_JAIL_UID, "uid") or not _is_mapped(JAIL_GID, "gid"):
        return f"this user namespace has no user {FIRST_JAIL_UID}"
    return None


def _capabilities() -> int:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _is_mapped(number: int, kind: str) -> bool:
    """Whether a user or group is one in this user namespace (user_namespaces(7))."""
    for line in _read(f"/proc/self/{kind}_map").splitlines():
        first, _, count = map(int, line.split())
        if first <= number < first + count:
            return True
    return False


def _seccomp_problem() -> str | None:
    if "kill_process" not in _read("/proc/sys/kernel/seccomp/actions_avail"):
        return "the kernel has no seccomp filters"
    try:
        ctypes.CDLL(_LIBSECCOMP)
    except OSError:
        return f"{_LIBSECCOMP} is not installed"
    return None


def _find_group() -> tuple[str | None, str | None]:
    """A group of the cgroup v2 hierarchy in which machines can have theirs, or why there is none."""
    mounted = _mounted_hierarchy()
    own = next((line[3:] for line in _read("/proc/self/cgroup").splitlines() if line.startswith("0::")), None)
    if mounted is None or own is None:
        return None, "no cgroup v2 hierarchy is mounted"
    available = set(_read(f"{mounted}/cgroup.controllers").split())
    if not available >= CONTROLLERS:
        lacking = ", ".join(sorted(CONTROLLERS - available))
        return None, f"the cgroup v2 hierarchy has no controllers {lacking}: they are off, or those of cgroup v1"
    here = Path(mounted, own.lstrip("/"))
    candidates = [here, here.parent] if own != "/" else [here]
    if os.geteuid() == 0:
        candidates.append(Path(mounted))
    for group in dict.fromkeys(candidates):
        if _takes_groups(group, root=group == Path(mounted)):
            return os.fspath(group), None
    return None, f"this process may make no groups in {here}"


def _mounted_hierarchy() -> str | None:
    """Where the hierarchy is (proc(5): the type is the first field after the dash)."""
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return before.split()[4]
    return None


def _takes_groups(group: Path, *, root: bool) -> bool:
    if not (os.access(group, os.W_OK) and os.access(group / "cgroup.procs", os.W_OK)):
        return False
    if not set(_read(group / "cgroup.controllers").split()) >= CONTROLLERS:
        return False
    enabled = set(_read(group / "cgroup.subtree_control").split()) >= CONTROLLERS
    # A group with processes of its own gives no controllers to groups in it, but for the outermost one.
    return enabled or root or not _read(group / "cgroup.procs").strip()


def enable_controllers(group: str) -> str | None:
    """Gives the groups in this one the controllers that limits need; why that cannot be, else None."""
    control = Path(group, "cgroup.subtree_control")
    if set(_read(control).split()) >= CONTROLLERS:
        return None
    try:
        control.write_text(" ".join(f"+{name}" for name in sorted(CONTROLLERS)))
    except OSError as error:
        return f"the controllers of {group} cannot be had: {error.strerror}"
    return None


def sweep_groups(group: str) -> None:
    """Removes groups of machines whose zygote was killed; those with processes stay, and those that are just made."""
    for path in Path(group).glob("boxlite-*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _JUST_MADE_SECONDS:
                path.rmdir()


def _read(path: str | Path) -> str:
    """Nothing where it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
