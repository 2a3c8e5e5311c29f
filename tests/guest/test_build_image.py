"""builtin/python is a sound OCI image, in which Python and the usual tools work."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from guest.build.busybox import busybox
from guest.build.errors import BuildError
from guest.build.image import CONFIG
from guest.build.inputs import Inputs
from tests.guest.build_products import Product, build

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Product:
    return build("image", tmp_path_factory.mktemp("image"))


def test_every_blob_is_what_its_name_says(image: Product) -> None:
    """The index leads to the manifest, it to configuration and layer, and all digests and sizes are right."""
    blobs = image.output / "blobs" / "sha256"
    for blob in blobs.iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    (described,) = json.loads((image.output / "index.json").read_bytes())["manifests"]
    assert described["digest"] == f"sha256:{image.record['key']}"
    manifest = json.loads((blobs / image.record["key"]).read_bytes())
    descriptors = [described, manifest["config"], *manifest["layers"]]
    assert {entry["digest"] for entry in descriptors} == {f"sha256:{blob.name}" for blob in blobs.iterdir()}
    for entry in descriptors:
        assert (blobs / entry["digest"].removeprefix("sha256:")).stat().st_size == entry["size"]


def test_another_implementation_reads_the_image(image: Product) -> None:
    """skopeo finds the configuration, with the layer's digest as that of its contents."""
    done = subprocess.run(
        ["skopeo", "inspect", "--config", f"oci:{image.output}:latest"], capture_output=True, check=True, timeout=60
    )
    config = json.loads(done.stdout)
    assert config["config"] == CONFIG
    assert config["os"] == "linux"
    assert config["rootfs"]["diff_ids"] == [f"sha256:{image.tar.name}"]


def test_every_applet_is_there(image: Product) -> None:
    """By its name, in a directory of PATH, and no link leads nowhere."""
    applets = image.run("/bin/busybox", "--list").stdout.split()
    assert {"sh", "ls", "dd", "id", "stty", "ps", "vi", "wget"} <= set(applets)
    programs = {path.name for path in (image.tree / "usr" / "bin").iterdir()}
    assert set(applets) <= programs
    found = image.run("/bin/sh", "-c", "for p in /usr/bin/*; do test -x $p || echo $p; done", env={"PATH": PATH})
    assert (found.stdout, found.stderr) == ("", "")


def test_the_usual_commands_work(image: Product) -> None:
    done = image.run(
        "/bin/sh",
        "-c",
        "id -un; ls -d /root /tmp; echo hello | dd bs=1 count=4 2>/dev/null; echo; "
        "stat -c '%a %u' /tmp /root /etc/passwd",
        env={"PATH": PATH},
    )
    assert done.stdout.splitlines() == ["root", "/root", "/tmp", "hell", "1777 0", "700 0", "644 0"]
    assert done.stderr == ""


@pytest.mark.parametrize("directory", ["/usr/bin", "/bin", "/sbin", "/usr/sbin", ""])
def test_python_finds_its_library_from_every_path(image: Product, directory: str) -> None:
    """A link among the directories, as some distributions have it, does not lead the interpreter astray."""
    program = f"{directory}/python3" if directory else "python3"
    script = f"{program} -c 'import sys, json, ssl, sqlite3; print(sys.prefix)'"
    done = image.run("/bin/sh", "-c", script, env={"PATH": "/sbin:/bin"})
    assert (done.stdout, done.stderr) == ("/usr\n", "")


def test_a_thread_can_end_on_its_own(image: Product) -> None:
    """The C library loads libgcc_s.so.1 for that, and aborts the process where there is none."""
    done = image.run(
        "/usr/bin/python3",
        "-c",
        "import ctypes; c = ctypes.CDLL(None); thread = ctypes.c_ulong()\n"
        "c.pthread_create(ctypes.byref(thread), None, c.pthread_exit, None); print(c.pthread_join(thread, None))",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


def test_users_are_known(image: Product) -> None:
    done = image.run("/usr/bin/python3", "-c", "import pwd, grp; print(pwd.getpwuid(65534)[0], grp.getgrgid(0)[0])")
    assert done.stdout == "nobody root\n"


def test_a_missing_busybox_is_named_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="install the Debian package busybox-static"):
        busybox(Inputs(), path=str(tmp_path))


def test_a_busybox_with_shared_libraries_is_refused(tmp_path: Path) -> None:
    """It would not start in the image, whose libraries are the interpreter's."""
    (tmp_path / "busybox").symlink_to("/bin/true")
    with pytest.raises(BuildError, match=r"shared libraries.*busybox-static"):
        busybox(Inputs(), path=str(tmp_path))


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho ls cat\n", "no program at all"])
def test_a_program_that_is_no_busybox_is_refused(tmp_path: Path, script: str) -> None:
    (tmp_path / "busybox").write_text(script)
    (tmp_path / "busybox").chmod(0o755)
    with pytest.raises(BuildError, match="busybox-static"):
        busybox(Inputs(), path=str(tmp_path))


def test_an_applet_cannot_leave_its_directory(tmp_path: Path) -> None:
    (tmp_path / "busybox").write_text("#!/bin/sh\necho sh ../evil /abs cat\n")
    (tmp_path / "busybox").chmod(0o755)
    tree = busybox(Inputs(), path=str(tmp_path))
    assert set(tree) == {"usr/bin/busybox", "usr/bin/sh", "usr/bin/cat"}
