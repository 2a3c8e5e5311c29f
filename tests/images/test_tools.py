"""Images as other people's tools make them: each one boots, and what is in it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import trio

import boxlite
from tests.images.distributions import MirrorUnreachable, alpine, debian
from tests.privileges import require_root
from tests.shared_box import TEST_TIMEOUT

_NOT_NEEDED = (
    "--exclude=apt,gpgv,perl-base,libgnutls30,libunistring2,libp11-kit0,e2fsprogs,passwd,util-linux,tzdata,dpkg"
)


async def output(home: Path, image: str, *command: str) -> bytes:
    """What a command prints in a new box, which boots: nobody starts these images a second time."""
    with trio.fail_after(TEST_TIMEOUT):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True, templates_mib=0) as runtime,
            runtime.open_box(image) as box,
        ):
            return (await box.run(command)).stdout or b""


def umoci(*arguments: str) -> None:
    run("umoci", *arguments)


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


async def test_alpine_by_umoci(home: Path, tmp_path: Path) -> None:
    """The root file system of the smolmachines wheel, inserted as a layer; a second layer changes and removes."""
    image, root, more = tmp_path / "image", tmp_path / "root", tmp_path / "more"
    with tarfile.open(alpine(tmp_path / "alpine.tar")) as archive:
        archive.extractall(root, filter="tar")
    more.mkdir()
    (more / "motd").write_text("changed\n")
    umoci("init", "--layout", str(image))
    umoci("new", "--image", f"{image}:edge")
    rootless = () if os.geteuid() == 0 else ("--rootless",)
    umoci("insert", *rootless, "--image", f"{image}:edge", str(root), "/")
    umoci("insert", *rootless, "--image", f"{image}:edge", str(more / "motd"), "/etc/motd")
    umoci("insert", *rootless, "--image", f"{image}:edge", "--whiteout", "/etc/hostname")
    umoci("config", "--image", f"{image}:edge", "--config.env", "GREETING=hello", "--config.workingdir", "/etc")
    script = "cat motd; grep ^ID= os-release; echo $GREETING; apk --version | cut -d, -f1 | cut -c1-9"
    assert await output(home, f"oci:{image}:edge", "sh", "-c", script) == b"changed\nID=alpine\nhello\napk-tools\n"


async def test_an_image_by_buildah(home: Path, tmp_path: Path) -> None:
    """From scratch, in two commits: the second removes a file of the first."""
    require_root("buildah's chroot isolation")
    image = tmp_path / "image"
    buildah = ("buildah", "--root", str(tmp_path / "storage"), "--runroot", str(tmp_path / "run"))
    settings = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
    busybox = shutil.which("busybox")
    assert busybox is not None
    (tmp_path / "doomed").write_text("a secret\n")
    first = run(*buildah, "from", "scratch", **settings)
    run(*buildah, "add", first, busybox, "/bin/sh", **settings)
    run(*buildah, "add", first, str(tmp_path / "doomed"), "/doomed", **settings)
    run(*buildah, "config", "--user", "1000:1000", "--entrypoint", '["/bin/sh", "-c"]', first, **settings)
    base = run(*buildah, "commit", first, **settings)
    second = run(*buildah, "from", "--pull-never", base, **settings)
    run(*buildah, "run", "--user", "0", second, "--", "/bin/sh", "-c", "rm /doomed; echo kept >/kept", **settings)
    run(*buildah, "commit", second, f"oci:{image}:latest", **settings)
    run(*buildah, "rm", "--all", **settings)
    script = (
        "cat /kept; [ -e /doomed ] || echo gone; "
        "while read -r key id rest; do case $key in Uid:) echo $id; esac; done </proc/self/status"
    )
    assert await output(home, f"oci:{image}", "sh", "-c", script) == b"kept\ngone\n1000\n"


async def test_debian_by_debootstrap(home: Path, tmp_path: Path) -> None:
    """The first stage, which unpacks the packages; which become one layer."""
    require_root("debootstrap")
    image, root = tmp_path / "image", tmp_path / "root"
    try:
        await trio.to_thread.run_sync(lambda: debian(root, options=("--foreign", _NOT_NEEDED)))
    except MirrorUnreachable as error:
        pytest.skip(str(error))
    umoci("init", "--layout", str(image))
    umoci("new", "--image", f"{image}:stable")
    umoci("insert", "--image", f"{image}:stable", str(root), "/")
    script = '. /etc/os-release; echo $ID; printf "b\\na\\n" | sort; readlink /bin/sh; stat -c %a /tmp'
    found = await output(home, f"oci:{image}:stable", "bash", "-c", script)
    assert found == b"debian\na\nb\ndash\n1777\n"
