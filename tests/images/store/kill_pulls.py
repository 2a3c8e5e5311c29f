"""Kills pulls in the middle: `python -m tests.images.store.kill_pulls HOME NAME`. A process that has no thread yet.

Prints how many of them were killed; each was gone on with by a second pull, which must have ended it.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import trio

# Loaded before the forks, so that these are quick.
import boxlite.images.registry.pull
from actors import ChildSpec, open_supervisor
from boxlite.images.actor import ImageActor, ImageFiles
from boxlite.images.handle import Images
from boxlite.images.store.images import ImageStore
from tests.images.layouts import find_blobs
from tests.images.store.kills import killed_at

assert boxlite.images.registry.pull
NEVER = 1 << 30


async def pull(files: ImageFiles, name: str) -> None:
    async with open_supervisor() as supervisor:
        await Images(await supervisor.start_child(ChildSpec("images", lambda: ImageActor(files)))).pull(name)


def main() -> None:
    home, name = Path(sys.argv[1]), sys.argv[2]
    files = ImageFiles(disks=home / "disks", builtins=home / "builtin", images=home / "images")
    work = partial(trio.run, pull, files, name)
    step, killed = 0, True
    while killed:
        shutil.rmtree(home, ignore_errors=True)
        killed = killed_at(step, work)
        store = ImageStore(files.images, files.disks, dict)
        # Where it was killed after the image had its name, there is nothing left to do.
        assert len(store.list_images()) in ((0, 1) if killed else (1,)), step
        killed_at(NEVER, work)
        (info,) = store.list_images()
        assert info.names == (name,), step
        before = find_blobs(files.images)
        store.prune(every=False)
        assert find_blobs(files.images) == before, step
        assert os.listdir(files.images / "partial") == os.listdir(files.images / "leases") == [], step
        step += 6
    sys.stdout.write(f"{step // 6 - 1}\n")


if __name__ == "__main__":
    main()
