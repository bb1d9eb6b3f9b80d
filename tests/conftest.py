"""Fixtures of all tests.

Loading the plugin starts nothing: the control plane comes with the first test that asks for `cluster`, so that
`pytest tests/unit` needs none. pytest takes plugins from the topmost conftest.py only, which is why it stands here.
"""

from __future__ import annotations

pytest_plugins = ["engine_ops.devcluster.pytest_plugin"]
