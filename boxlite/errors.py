"""Every error that this package raises on purpose: one root, one class a situation.

A message names the box or image, the operation, the cause, and the way out where there is one.
"""

from __future__ import annotations


class BoxliteError(Exception):
    """The root: `except BoxliteError` catches whatever this package raises on purpose."""


# Images


class ImageError(BoxliteError):
    """Something is wrong with an image."""


class InvalidReference(ImageError, ValueError):
    """The text does not name an image."""


class ImageNotFound(ImageError, LookupError):
    """There is no such image, tag or blob."""


class ImageDamaged(ImageError, ValueError):
    """The image's bytes are not what its digests or its format promise."""


class LayerRejected(ImageError, ValueError):
    """A layer tries to leave its root, lies about its size, or unpacks without end."""


class UnsupportedImage(ImageError, NotImplementedError):
    """The image is sound, but of a kind that cannot be used here: another architecture, an unknown compression."""


# Engines and virtual machines


class EngineUnavailable(BoxliteError, OSError):
    """No virtual machine can be started here: a program, library, kernel or permission is missing."""


class BoxError(BoxliteError):
    """Something is wrong with one box, whose name `box` is."""

    def __init__(self, box: str, message: str) -> None:
        super().__init__(f"box {box}: {message}")
        self.box = box


class SocketPathTooLong(BoxliteError, ValueError):
    """The path of a Unix socket would exceed what the operating system takes."""
