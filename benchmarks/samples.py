"""What many measurements of one thing come down to. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(samples: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile: the smallest sample that at least `percent` % of them do not exceed.

    `percent` is 1 to 100. Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("nothing was measured")
    rank = -(-len(samples) * percent // 100)  # rounded up
    return sorted(samples)[rank - 1]


def median(samples: Sequence[float]) -> float:
    """The 50th percentile: a value that was measured, also of an even number of samples."""
    return percentile(samples, 50)
