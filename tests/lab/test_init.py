from __future__ import annotations

import subprocess

import pytest

from lab.init import init_script


@pytest.mark.parametrize(("disks", "names"), [(1, "vdb"), (3, "vdb vdc vdd")])
def test_the_machines_init_is_a_script_that_lays_every_disk_over_its_root(disks: int, names: str) -> None:
    script = init_script(busybox="/bin/busybox", python="/a b/python", runner="/c/runner.py", disks=disks)
    assert f"for disk in {names}; do" in script
    assert "'/a b/python' -ISB /c/runner.py" in script
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
