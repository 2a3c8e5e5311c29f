"""What decides which template a box can be restored from. Pure: no I/O."""

from __future__ import annotations

import hashlib
import json
from typing import Final

import attrs

from boxlite.boxes.options import BoxOptions
from boxlite.images.reference import Reference
from boxlite.vmm.engines import EngineChoice
from vmm_ffi.spec import InstanceSpec

FORMAT_VERSION: Final = 3
"""Of templates. It grows when the same key would give a machine that this version could not restore, or not take up."""

PLACEHOLDER: Final = "template"
"""The name of the machine that a template is made by, and its host name. A box restored from it gets its own."""

_NAME_DIGITS: Final = 32

_text = attrs.validators.instance_of(str)
_flag = attrs.validators.instance_of(bool)


def _count(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(f"{attribute.name} must be a number that is not negative, not {value!r}")


@attrs.frozen(kw_only=True)
class TemplateKey:
    """All that a saved machine depends on: boxes with the same key are clones of one template, and no other boxes are.

    Nothing of a box that its commands see, such as its name, its environment and its user, is part of it. Raises
    TypeError or ValueError where a field is of another type.
    """

    image: str = attrs.field(validator=_text)
    """The name of the image's disk, which is its digest and the format of disks."""
    guest_root: str = attrs.field(validator=_text)
    """The name of the guest's root disk, which is a digest of its content."""
    kernel: str = attrs.field(validator=_text)
    engine: str = attrs.field(validator=_text)
    release: str = attrs.field(validator=_text)
    """What the engine's program says of its version."""
    command_line: str = attrs.field(validator=_text)
    """See `EngineChoice`."""
    accelerator: str = attrs.field(validator=_text)
    processor: str = attrs.field(validator=_text)
    """See `EngineChoice`."""
    tsc_khz: int | None = attrs.field(validator=attrs.validators.optional(_count))
    parallel_cpus: bool = attrs.field(validator=_flag)
    network: bool = attrs.field(validator=_flag)
    cpus: int = attrs.field(validator=_count)
    memory_mib: int = attrs.field(validator=_count)
    disk_mib: int = attrs.field(validator=_count)
    format: int = attrs.field(default=FORMAT_VERSION, validator=_count)

    def name(self) -> str:
        """A digest of all of it, for the name of the template's folder."""
        text = json.dumps(attrs.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]


@attrs.frozen
class Recipe:
    """How to make the template of a key: the machine, its scratch disk left out, and for people the image's name."""

    key: TemplateKey
    spec: InstanceSpec
    reference: Reference
    saves: bool = True
    """Whether the engine can save machines at all; see `EngineChoice`."""


def make_key(
    options: BoxOptions, engine: EngineChoice, *, image: str, guest_root: str, kernel: str, network: bool = False
) -> TemplateKey:
    """The key of a box's first start. The last arguments are texts that tell each of these parts from all others."""
    return TemplateKey(
        image=image,
        guest_root=guest_root,
        kernel=kernel,
        engine=engine.kind.value,
        release=engine.release,
        command_line=engine.command_line,
        accelerator=engine.accelerator.value,
        processor=engine.processor,
        tsc_khz=engine.tsc_khz,
        parallel_cpus=engine.parallel_cpus,
        network=network,
        cpus=options.cpus,
        memory_mib=options.memory_mib,
        disk_mib=options.disk_mib,
    )
