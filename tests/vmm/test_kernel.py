from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio

from boxlite.errors import EngineUnavailable
from boxlite.vmm.engines import EngineChoice
from boxlite.vmm.kernel import ensure_kernel


@pytest.fixture
def library(choice: EngineChoice) -> Path:
    assert choice.kernel_library is not None
    return choice.kernel_library


async def test_a_kernel_is_taken_out_once_also_by_two_at_once(library: Path, tmp_path: Path) -> None:
    kernels: list[Path] = []

    async def ensure() -> None:
        kernels.append(await ensure_kernel(tmp_path, library))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ensure)
        nursery.start_soon(ensure)
    assert kernels[0] == kernels[1]
    assert kernels[0].read_bytes()[:4] == b"\x7fELF"
    made = kernels[0].stat().st_mtime_ns
    await ensure()
    assert kernels[2].stat().st_mtime_ns == made
    assert os.listdir(tmp_path) == [kernels[0].name]


async def test_a_changed_library_gives_another_kernel(library: Path, tmp_path: Path) -> None:
    copy = tmp_path / "libkrunfw.so"
    shutil.copyfile(library, copy)
    first = await ensure_kernel(tmp_path, copy)
    os.utime(copy, ns=(0, 0))
    assert await ensure_kernel(tmp_path, copy) != first


async def test_cancelling_leaves_nothing(library: Path, tmp_path: Path) -> None:
    for seconds in (0, 0.01, 0.03):
        with trio.move_on_after(seconds):
            await ensure_kernel(tmp_path, library)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF" + bytes(100)])
async def test_a_file_that_is_no_library_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "libkrunfw.so").write_bytes(content)
    with pytest.raises(EngineUnavailable, match=r"no kernel could be taken out of .*cannot be used as libkrunfw"):
        await ensure_kernel(tmp_path, tmp_path / "libkrunfw.so")
    assert os.listdir(tmp_path) == ["libkrunfw.so"]


async def test_a_library_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"cannot read the kernel library .*No such file"):
        await ensure_kernel(tmp_path, tmp_path / "nowhere")
