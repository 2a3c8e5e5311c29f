"""Why there is no lab."""

from __future__ import annotations

import boxlite


class LabUnavailable(boxlite.BoxliteError):
    """The outer machine cannot be made, or does not come up, on this host; the message says why."""


class LabLost(boxlite.BoxliteError):
    """The outer machine ended, or stopped making sense, while a command ran in it."""
