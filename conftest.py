"""Rules of every test run: a skipped test is a failed one."""

from collections.abc import Generator

import pytest


def as_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns a skip into a failure that names its reason; expected failures stay as they are."""
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which no test may be: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    as_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    as_failure(report)
    return report
