"""Engines that did not boot a machine on this host, remembered in the home until the host boots again.

A /dev/kvm may look usable and not be: what it cannot run shows when a machine dies at its start, and the next one need
not try.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from vmm_ffi.spec import read_boot_id

FAILURES_FILE: Final = "failed-engines.json"

_MAX_FILE: Final = 64 * 1024
_MAX_REASON: Final = 500


def read_failures(path: Path) -> dict[str, str]:
    """Why each engine failed since the host's boot, by `EngineChoice.name`; none where the file is damaged or older."""
    try:
        with path.open("rb") as file:
            content: Any = json.loads(file.read(_MAX_FILE))
        failures = content["failures"]
        known = content["boot_id"] == read_boot_id() and isinstance(failures, dict)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not known or not all(isinstance(reason, str) for reason in failures.values()):
        return {}
    return dict(failures)


def note_failure(path: Path, name: str, reason: str) -> None:
    """Adds one; the file is whole whoever reads it meanwhile. Raises OSError."""
    failures: Mapping[str, str] = read_failures(path) | {name: reason[:_MAX_REASON]}
    text = json.dumps({"boot_id": read_boot_id(), "failures": failures})
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{FAILURES_FILE}-", dir=path.parent)
    try:
        with open(descriptor, "w") as file:
            file.write(text)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise
