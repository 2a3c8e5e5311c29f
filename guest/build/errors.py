"""The one error of the build."""

from __future__ import annotations


class BuildError(Exception):
    """Something that the guest needs is missing on this host; the message says what, and how to get it."""
