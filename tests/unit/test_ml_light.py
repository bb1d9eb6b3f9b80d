"""Importing the SDK costs next to nothing: plugins and workers do it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("kopf", "kubernetes", "sklearn", "pandas", "numpy", "aiohttp")

MODULES = [
    "engine_ops.ml",
    "engine_ops.ml.base_model",
    "engine_ops.ml.dataset",
    "engine_ops.ml.features",
    "engine_ops.ml.keys",
    "engine_ops.ml.plugin_interface",
    "engine_ops.ml.prediction",
    "engine_ops.ml.request_fields",
    "engine_ops.ml.statistics",
]


def run(script: str) -> str:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.mark.parametrize("module", MODULES)
def test_importing_loads_nothing_heavy(module: str) -> None:
    loaded = run(f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded == ""


def test_features_need_no_numpy() -> None:
    loaded = run(
        "import sys\n"
        "from engine_ops.ml import WorkloadDataPoint, WorkloadDataset\n"
        "data = WorkloadDataset([WorkloadDataPoint(1, 'resource', {'cpu': 1}, 5.0, True)])\n"
        "data.to_features_labels('duration'); data.features({'type': 'resource'})\n"
        "print('numpy' in sys.modules)"
    )
    assert loaded == "False"


def test_names_of_the_package() -> None:
    import engine_ops.ml

    assert dir(engine_ops.ml) == [
        "BaseMLModel",
        "MLPluginInterface",
        "PluginMetadata",
        "PredictionResult",
        "WorkloadDataPoint",
        "WorkloadDataset",
    ]
    assert [getattr(engine_ops.ml, name).__name__ for name in dir(engine_ops.ml)] == dir(engine_ops.ml)
    with pytest.raises(AttributeError, match="no attribute 'Dataset'"):
        _ = engine_ops.ml.Dataset
