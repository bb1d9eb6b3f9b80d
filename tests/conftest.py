"""Fixtures of all tests.

Loading the plugin starts nothing: the control plane comes with the first test that asks for `cluster`, so that
`pytest tests/unit` needs none. pytest takes plugins from the topmost conftest.py only, which is why it stands here.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

pytest_plugins = ["engine_ops.devcluster.pytest_plugin"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let what a test printed or logged be sent between processes: hostile texts with lone surrogates are among it."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
