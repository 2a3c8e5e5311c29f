"""Keys and recipes for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from boxlite.images.reference import parse_reference
from boxlite.templates.key import Recipe, TemplateKey
from vmm_ffi.spec import DiskSpec, InstanceSpec, VmmKind

KEY = TemplateKey(
    image="sha256-00.1.ext4",
    guest_root="guest-root-00.ext4",
    kernel="kernel-00.elf",
    engine="qemu",
    release="QEMU emulator version 7.2.22",
    command_line="00",
    accelerator="tcg",
    processor="",
    tsc_khz=2_000_000,
    parallel_cpus=False,
    network=False,
    cpus=1,
    memory_mib=256,
    disk_mib=64,
)


def make_recipe(**changes: Any) -> Recipe:
    """A recipe whose key differs from `KEY` in the given fields."""
    key = attrs.evolve(KEY, **changes)
    disks = tuple(DiskSpec(str(Path("/disks") / serial), serial) for serial in ("root", "image"))
    spec = InstanceSpec("b", VmmKind.QEMU, "/kernel", disks, cpus=key.cpus, memory_mib=key.memory_mib)
    return Recipe(key, spec, parse_reference("builtin/python"))
