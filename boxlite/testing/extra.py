"""What the extra `testing` brings, and the error where it is not installed."""

from __future__ import annotations


def missing(module: str, error: ImportError) -> ImportError:
    """What to raise where `module` cannot be imported because a package of the extra is not there."""
    return ImportError(f"{module} needs {error.name}: pip install 'boxlite-trio[testing]'", name=error.name)
