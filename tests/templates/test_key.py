from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.boxes.options import BoxOptions
from boxlite.images.reference import parse_reference
from boxlite.templates.key import TemplateKey, make_key
from boxlite.vmm.engines import EngineChoice
from tests.templates.keys import KEY
from vmm_ffi.spec import Accelerator, VmmKind

ENGINE = EngineChoice(
    kind=VmmKind.QEMU,
    accelerator=Accelerator.TCG,
    program=Path("/usr/bin/qemu"),
    parallel_cpus=False,
    tsc_khz=2_000_000,
    kernel=Path("/kernel"),
    kernel_library=None,
    reason="a test",
    release="QEMU emulator version 7.2.22",
    processor="abc",
)
IMAGE = parse_reference("builtin/python")


def key_of(options: BoxOptions, engine: EngineChoice = ENGINE, **parts: Any) -> TemplateKey:
    return make_key(options, engine, **{"image": "i", "guest_root": "r", "kernel": "k"} | parts)


def changed(field: str, value: object) -> TemplateKey:
    change: dict[str, Any] = {field: value}
    return attrs.evolve(KEY, **change)


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(TemplateKey)])
def test_every_field_makes_another_template(field: str) -> None:
    value = getattr(KEY, field)
    other = (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int) else value + "x"
    assert changed(field, other).name() != KEY.name()


def test_a_name_is_that_of_a_folder_and_the_same_in_every_process() -> None:
    assert KEY.name() == "92b8d6e50782fa8ce7065c30c86b2e40"


@pytest.mark.parametrize("own", [{"name": "mine"}, {"env": {"SECRET": "x"}}, {"user": "nobody"}, {"detached": True}])
def test_what_is_a_box_s_own_is_not_in_its_template(own: dict[str, Any]) -> None:
    assert key_of(BoxOptions(IMAGE, **own)) == key_of(BoxOptions(IMAGE))


@pytest.mark.parametrize("kind", [{"cpus": 2}, {"memory_mib": 512}, {"disk_mib": 64}])
def test_what_the_machine_is_made_of_makes_another_template(kind: dict[str, Any]) -> None:
    assert key_of(BoxOptions(IMAGE, **kind)) != key_of(BoxOptions(IMAGE))


@pytest.mark.parametrize("part", ["image", "guest_root", "kernel"])
def test_another_image_guest_root_or_kernel_makes_another_template(part: str) -> None:
    other: dict[str, Any] = {part: "other"}
    assert key_of(BoxOptions(IMAGE), **other) != key_of(BoxOptions(IMAGE))


@pytest.mark.parametrize(
    "change",
    [
        {"release": "QEMU emulator version 10.0.2"},
        {"command_line": "00"},
        {"accelerator": Accelerator.KVM},
        {"processor": "def"},
        {"tsc_khz": None},
        {"parallel_cpus": True},
    ],
)
def test_another_engine_makes_another_template(change: dict[str, Any]) -> None:
    options = BoxOptions(IMAGE)
    assert key_of(options, attrs.evolve(ENGINE, **change)) != key_of(options)


@given(st.sampled_from(attrs.fields(TemplateKey)), st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_a_field_of_another_type_is_refused(field: attrs.Attribute[object], value: object) -> None:
    sound = type(value) is type(getattr(KEY, field.name)) and not (type(value) is int and value < 0)
    if sound or (field.name == "tsc_khz" and value is None):
        changed(field.name, value)
    else:
        with pytest.raises((TypeError, ValueError)):
            changed(field.name, value)
