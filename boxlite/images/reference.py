"""The names of images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias

import attrs

from boxlite.errors import InvalidReference

_BUILTIN = re.compile(r"builtin/([a-z0-9][a-z0-9._-]{0,63})")
_REGISTRY_NAME = re.compile(r"(?:docker://)?([A-Za-z0-9][A-Za-z0-9._:/@-]{0,254})")


@attrs.frozen
class LayoutReference:
    """`oci:DIRECTORY[:TAG]`, an OCI image layout on disk, as skopeo names it. Without a tag it must hold one image."""

    directory: Path
    tag: str | None = None

    def __str__(self) -> str:
        return f"oci:{self.directory}" + (f":{self.tag}" if self.tag else "")


@attrs.frozen
class BuiltinReference:
    """`builtin/NAME`, an image made out of this installation's own parts."""

    name: str

    def __str__(self) -> str:
        return f"builtin/{self.name}"


Reference: TypeAlias = LayoutReference | BuiltinReference


def parse_reference(text: str) -> Reference:
    """Reads the name of an image. A relative directory starts at the working directory of now.

    Raises `InvalidReference`, which for the name of an image in a registry says how to get it.
    """
    if not text or "\0" in text:
        raise InvalidReference(f"{text!r} does not name an image: use oci:DIRECTORY[:TAG] or builtin/NAME")
    if text.startswith("oci:"):
        # Like skopeo: the first colon ends the directory, and a tag may have more of them.
        directory, _, tag = text.removeprefix("oci:").partition(":")
        if not directory:
            raise InvalidReference(f"{text!r} names no directory: use oci:DIRECTORY[:TAG]")
        return LayoutReference(Path(directory).absolute(), tag or None)
    if builtin := _BUILTIN.fullmatch(text):
        return BuiltinReference(builtin[1])
    message = f"{text!r} is not an image that can be used here: oci:DIRECTORY[:TAG] and builtin/NAME are"
    if remote := _REGISTRY_NAME.fullmatch(text):
        directory = re.split("[:@]", remote[1].rsplit("/", 1)[-1])[0] or "image"
        message += (
            "; registries come with a later release, until then "
            f"`skopeo copy docker://{remote[1]} oci:{directory}` makes oci:{directory} of it"
        )
    raise InvalidReference(message)
