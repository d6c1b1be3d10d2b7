"""A parity test that does not run proves nothing: skipping one is failing it."""

from collections.abc import Generator

import pytest

REASON = "was skipped; the parity data are in the project, so that none has a reason to"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} {REASON}"
        vars(report).pop("wasxfail", None)  # pytest counts what was expected to fail as no failure
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} {REASON}"
    return report
