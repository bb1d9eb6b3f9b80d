"""Fixtures of all tests.

Loading the plugin starts nothing: the control plane comes with the first test that asks for `cluster`, so that
`pytest tests/unit` needs none. pytest takes plugins from the topmost conftest.py only, which is why it stands here.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["engine_ops.devcluster.pytest_plugin"]

# How long an example takes says how busy the machine is: one that is held up for a moment is no fault of the code's.
settings.register_profile(
    "any machine", parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

_ENDED_EARLY = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let what a test printed or logged be sent between processes: hostile texts with lone surrogates are among it."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Note that one of the processes which run the tests (pytest-xdist) ended before its time."""
    if error:
        node.config.stash[_ENDED_EARLY] = True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail such a run: where no test was under way, it counted as a success, though not one may have run."""
    if session.config.stash.get(_ENDED_EARLY, False) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
