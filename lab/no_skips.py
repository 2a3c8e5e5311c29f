"""A pytest plugin for the lab (`-p lab.no_skips`): what was to be tested there and was not is a failure."""

from __future__ import annotations

import pytest


class _Count:
    skipped = 0


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Counts."""
    _Count.skipped += report.skipped and not hasattr(report, "wasxfail")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A session whose tests did not fail fails for those that did not run."""
    if exitstatus == pytest.ExitCode.OK and _Count.skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
