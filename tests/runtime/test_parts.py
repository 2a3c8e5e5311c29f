"""The parts that all boxes of a runtime share."""

from __future__ import annotations

import os
from pathlib import Path

from boxlite.runtime.layout import Home
from boxlite.runtime.parts import Parts


async def test_a_kernel_of_one_s_own_is_another_one_when_its_file_has_changed(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(b"one")
    os.utime(kernel, (1, 1))
    seen = []
    for content, seconds in ((b"one", 1), (b"two", 2), (b"longer", 2)):
        kernel.write_bytes(content)
        os.utime(kernel, (seconds, seconds))
        parts = Parts(Home(tmp_path / "home"), engine=None, kernel=kernel)
        assert await parts.kernel() == kernel
        seen.append(await parts.kernel_identity())
    assert len({*seen}) == 3


async def test_a_kernel_out_of_libkrunfw_is_known_by_its_name(home: Path) -> None:
    found = Home(home)
    found.make()
    parts = Parts(found, engine=None, kernel=None)
    assert await parts.kernel_identity() == (await parts.kernel()).name
