from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmm_ffi.specs import instances
from vmm_ffi.spec import MAX_SOCKET_PATH, DiskSpec, InstanceSpec, MemoryFile, PortSpec, ShareSpec, SpecError, VmmKind

SPEC = InstanceSpec(box_id="box", kind=VmmKind.QEMU, kernel="/kernel", disks=(DiskSpec("/root", "root"),))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(instances)
def test_a_specification_survives_json(spec: InstanceSpec) -> None:
    assert InstanceSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@given(st.data(), json_values)
def test_a_field_of_another_kind_is_refused_or_stays_itself(data: st.DataObject, value: Any) -> None:
    """Nothing but the documented errors comes out of `from_json`, whatever one field is replaced by."""
    fields = SPEC.to_json()
    fields[data.draw(st.sampled_from(sorted(fields)))] = value
    try:
        spec = InstanceSpec.from_json(fields)
    except (ValueError, KeyError, TypeError):
        return
    assert InstanceSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: attrs.evolve(SPEC, box_id=""), "box_id must be 1 to 64 of"),
        (lambda: attrs.evolve(SPEC, box_id="x" * 65), "box_id must be 1 to 64 of"),
        (lambda: attrs.evolve(SPEC, box_id="a,b"), "box_id must be 1 to 64 of"),
        (lambda: attrs.evolve(SPEC, box_id="a\n"), "box_id must be 1 to 64 of"),
        (lambda: attrs.evolve(SPEC, kernel="kernel"), "kernel must be an absolute path"),
        (lambda: attrs.evolve(SPEC, kernel="/a\0b"), "kernel must be an absolute path"),
        (lambda: attrs.evolve(SPEC, disks=()), "disks"),
        (lambda: attrs.evolve(SPEC, disks=SPEC.disks * 2), "the disk serial 'root' is given twice"),
        (lambda: attrs.evolve(SPEC, ports=(PortSpec(1, "/a"), PortSpec(1, "/b"))), "the port 1 is given twice"),
        (lambda: attrs.evolve(SPEC, cpus=0), "cpus must be a number of at least 1, not 0"),
        (lambda: attrs.evolve(SPEC, memory_mib=63), "memory_mib must be a number of at least 64, not 63"),
        (lambda: attrs.evolve(SPEC, kernel_args=("a b",)), "printable ASCII without spaces, not 'a b'"),
        (lambda: attrs.evolve(SPEC, kernel_args=("",)), "printable ASCII without spaces, not ''"),
        (lambda: attrs.evolve(SPEC, program="qemu"), "program must be an absolute path"),
        (lambda: attrs.evolve(SPEC, mac_address="52:54:00:12:34"), "mac_address must be the address of one station"),
        (lambda: attrs.evolve(SPEC, mac_address="53:54:00:12:34:56"), "mac_address must be the address of one station"),
        (lambda: attrs.evolve(SPEC, mac_address="52:54:00:12:34:5,x"), "mac_address must be the address of one"),
        (lambda: ShareSpec("", "/a"), r"name must be 1 to 32 of \[a-z0-9\], not ''"),
        (lambda: ShareSpec("../a", "/a"), "name must be 1 to 32 of"),
        (lambda: ShareSpec("a", "a"), "path must be an absolute path"),
        (lambda: ShareSpec("a", "/a", 1), "read_only is true or false"),  # type: ignore[arg-type]
        (lambda: attrs.evolve(SPEC, shares=(ShareSpec("a", "/a"),) * 2), "the share 'a' is given twice"),
        (lambda: attrs.evolve(SPEC, share_server="virtiofsd"), "share_server must be an absolute path"),
        (lambda: MemoryFile("memory", shared=True), "path must be an absolute path"),
        (lambda: DiskSpec("/disk", "x" * 21), "serial takes 20 characters"),
        (lambda: PortSpec(0, "/a"), "number must be a number of at least 1"),
        (lambda: PortSpec(1, "/" + "x" * MAX_SOCKET_PATH), "path has 108 bytes, a Unix socket takes 107"),
        (lambda: PortSpec(1, "/" + "é" * 54), "path has 109 bytes, a Unix socket takes 107"),
    ],
)
def test_what_no_engine_could_honour_is_refused(build: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build()


def test_the_longest_socket_path_is_taken() -> None:
    assert PortSpec(1, "/" + "x" * (MAX_SOCKET_PATH - 1))


def test_a_broken_rule_is_a_specification_error() -> None:
    with pytest.raises(SpecError):
        attrs.evolve(SPEC, cpus=0)
