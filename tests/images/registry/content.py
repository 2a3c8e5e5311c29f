"""A registry out of a layout, in memory: what an honest one answers."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from boxlite.images.layout import host_architecture
from tests.images.archives import archive, file
from tests.images.layouts import INDEX, digest, put_image
from tests.images.registry.web import Request, Response, refusal

_PATH = re.compile(r"/v2/(.+)/(manifests|blobs)/([^/]+)")
_RANGE = re.compile(r"bytes=([0-9]+)-")


@attrs.define
class Content:
    """Blobs and manifests by digest, tags by name, and everything that was asked."""

    blobs: dict[str, bytes] = attrs.field(factory=dict)
    tags: dict[str, str] = attrs.field(factory=dict)
    media_types: dict[str, str] = attrs.field(factory=dict)
    requests: list[Request] = attrs.field(factory=list)

    def put(self, data: bytes, media_type: str = "") -> str:
        name = digest(data)
        self.blobs[name] = data
        self.media_types[name] = media_type
        return name

    def put_layout(self, layout: Path, descriptor: Mapping[str, Any], tag: str = "latest") -> str:
        """All blobs of a layout; the descriptor's gets the tag."""
        for path in (layout / "blobs/sha256").iterdir():
            self.put(path.read_bytes())
        name: str = descriptor["digest"]
        self.media_types[name] = descriptor["mediaType"]
        self.tags[tag] = name
        return name

    def put_index(self, *manifests: Mapping[str, Any], tag: str = "latest") -> dict[str, Any]:
        data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}).encode()
        self.tags[tag] = self.put(data, INDEX)
        return {"mediaType": INDEX, "digest": digest(data), "size": len(data)}

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if request.path == "/v2/":
            return Response(200)
        match = _PATH.fullmatch(request.path)
        if match is None:
            return refusal(404, "NAME_UNKNOWN", "repository name not known to registry")
        name = self.tags.get(match[3], match[3])
        data = self.blobs.get(name)
        if data is None:
            return refusal(404, f"{match[2][:-1].upper()}_UNKNOWN", f"{match[2][:-1]} unknown")
        if match[2] == "manifests":
            headers = (("Content-Type", self.media_types[name]), ("Docker-Content-Digest", name))
            return Response(200, headers, data)
        return ranged(request, data, name)


def ranged(request: Request, data: bytes, name: str) -> Response:
    """A blob, or what was asked for of it."""
    etag = f'"{name}"'
    wanted = _RANGE.fullmatch(request.headers.get("range", ""))
    if wanted is None or request.headers.get("if-range", etag) != etag:
        return Response(200, (("ETag", etag), ("Accept-Ranges", "bytes")), data)
    start = int(wanted[1])
    if start >= len(data):
        return Response(416, (("Content-Range", f"bytes */{len(data)}"),))
    place = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return Response(206, (("ETag", etag), ("Content-Range", place)), data[start:])


def noise(size: int, seed: str = "") -> bytes:
    """Bytes that do not compress, the same each time."""
    blocks = (hashlib.sha256(f"{seed} {number}".encode()).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def small_image(layout: Path, *sizes: int) -> dict[str, Any]:
    """An image with a layer for each of these sizes."""
    tars = [archive(file(f"f{number}".encode(), noise(size, str(number)))) for number, size in enumerate(sizes)]
    return put_image(layout, tars)


@functools.cache
def image_of(*sizes: int) -> Content:
    """A registry with such an image, which is the same for all tests and which nobody changes."""
    content = Content()
    with tempfile.TemporaryDirectory() as directory:
        content.put_layout(Path(directory), small_image(Path(directory), *sizes))
    return content


def platform(descriptor: Mapping[str, Any], architecture: str | None = None, **extra: str) -> dict[str, Any]:
    """A descriptor as it stands in an index."""
    return {**descriptor, "platform": {"os": "linux", "architecture": architecture or host_architecture(), **extra}}
