"""Flattened trees: what scikit-learn predicts, from numpy alone, and only from arrays that are sound."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor

from engine_ops.ml.models.flat_trees import FlatTrees

SLOW = settings(max_examples=15)


def table(rng: np.random.Generator, rows: int, missing: float) -> np.ndarray:
    """Columns as a feature schema makes them: hours, durations over decades, counts, amounts, words as 0, 1 or NaN."""
    columns = [
        rng.integers(0, 24, rows).astype(float),
        np.exp(rng.normal(8, 4, rows)),
        rng.integers(0, 5, rows).astype(float),
        rng.choice([0.1, 0.25, 0.5, 1.0], rows),
        rng.integers(0, 2, rows).astype(float),
        rng.integers(0, 2, rows).astype(float),
    ]
    values = np.column_stack(columns)
    values[rng.random(values.shape) < missing] = np.nan
    values[:, 0] = columns[0]
    return values


@SLOW
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(30, 400),
    missing=st.sampled_from([0.0, 0.1, 0.6]),
    loss=st.sampled_from(["quantile", "absolute_error", "squared_error"]),
    max_depth=st.sampled_from([None, 1, 4]),
)
def test_they_predict_what_scikit_learn_predicts(
    seed: int, rows: int, missing: float, loss: str, max_depth: int | None
) -> None:
    rng = np.random.default_rng(seed)
    features = table(rng, rows, missing)
    # What is missing tells something, so that some splits part it from the rest.
    labels = np.nan_to_num(np.log(features[:, 1]), nan=3.0) + np.isnan(features[:, 4]) * 5 + rng.normal(0, 1, rows)
    models = [
        HistGradientBoostingRegressor(
            loss=loss,
            quantile=quantile if loss == "quantile" else None,
            max_iter=iterations,
            min_samples_leaf=3,
            max_depth=max_depth,
            random_state=0,
        ).fit(features, labels)
        for quantile, iterations in ((0.1, 9), (0.5, 1), (0.9, 20))
    ]
    trees = FlatTrees.of_boosting(models)
    # Rows that were never seen: more missing, and values on and beyond the thresholds.
    queries = np.concatenate([features, table(rng, 200, 0.5), rng.permuted(features, axis=0) * 10])
    expected = np.column_stack([model.predict(queries) for model in models])
    assert np.abs(trees.predict(queries) - expected).max() < 1e-9
    one_by_one = np.concatenate([trees.predict(query[np.newaxis]) for query in queries[:20]])
    assert np.abs(one_by_one - expected[:20]).max() < 1e-9
    again = FlatTrees(trees.to_arrays(), trees.columns)
    assert np.array_equal(again.predict(queries), trees.predict(queries))


def test_a_column_that_is_only_missing_or_not_leads_apart() -> None:
    features = np.array([[np.nan], [1.0]] * 40)
    labels = np.array([0.0, 1.0] * 40)
    model = HistGradientBoostingRegressor(max_iter=1, learning_rate=1, min_samples_leaf=1).fit(features, labels)
    trees = FlatTrees.of_boosting([model])
    assert np.isinf(trees.to_arrays()["threshold"]).any()  # so scikit-learn splits it
    assert trees.predict([[np.nan], [1.0], [1e308], [-1e308]]).ravel() == pytest.approx([0, 1, 1, 1])


def test_many_rows_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = FlatTrees(stump(), 2)
    rows = np.random.default_rng(1).normal(size=(100, 2))
    whole = trees.predict(rows)
    monkeypatch.setattr("engine_ops.ml.models.flat_trees._CHUNK", 7)
    assert np.array_equal(trees.predict(rows), whole)
    assert trees.predict(np.empty((0, 2))).shape == (0, 2)


def stump(**changes: Any) -> dict[str, Any]:
    """Two outputs: one of a stump and a leaf, one of a leaf."""
    arrays: dict[str, Any] = {
        "feature": [1, 0, 0, 0, 0],
        "threshold": [0.5, 0.0, 0.0, 0.0, 0.0],
        "missing_left": [True, False, False, False, False],
        "left": [1, 1, 2, 3, 4],
        "right": [2, 1, 2, 3, 4],
        "value": [0.0, 10.0, 20.0, 1.0, 5.0],
        "roots": [0, 3, 4],
        "first_tree": [0, 2],
        "baseline": [100.0, 0.0],
    }
    return {**arrays, **changes}


def test_a_stump_by_hand() -> None:
    trees = FlatTrees(stump(), 2)
    assert (trees.outputs, trees.trees) == (2, 3)
    rows = [[0, 0.5], [0, np.nextafter(0.5, 1)], [np.nan, np.nan]]
    assert trees.predict(rows).tolist() == [[111, 5], [121, 5], [111, 5]]


@pytest.mark.parametrize(
    "changes",
    [
        {"feature": [2, 0, 0, 0, 0]},
        {"feature": [-1, 0, 0, 0, 0]},
        {"feature": [0.5, 0, 0, 0, 0]},
        {"feature": [np.nan, 0, 0, 0, 0]},
        {"threshold": [np.nan, 0, 0, 0, 0]},
        {"threshold": [0.5]},
        {"threshold": ["x"] * 5},
        {"left": [0, 1, 2, 3, 4]},  # the stump leads back to itself
        {"left": [5, 1, 2, 3, 4]},
        {"left": [1, 0, 2, 3, 4]},
        {"right": [-1, 1, 2, 3, 4]},
        {"right": [2**40, 1, 2, 3, 4]},
        {"value": [0, 10, np.inf, 1, 5]},
        {"roots": [0, 4, 3]},
        {"roots": [1, 3, 4]},
        {"roots": []},
        {"roots": [[0, 3, 4]]},
        {"first_tree": [0, 0]},
        {"first_tree": [0, 3]},
        {"first_tree": [0]},
        {"baseline": [np.nan, 0]},
    ],
)
def test_unsound_arrays_are_refused_by_name(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=rf"^{name}: "):
        FlatTrees(stump(**changes), 2)


def test_a_missing_array_is_named() -> None:
    arrays = stump()
    del arrays["roots"]
    with pytest.raises(ValueError, match=r"^roots: missing"):
        FlatTrees(arrays, 2)
    with pytest.raises(ValueError, match=r"^columns: "):
        FlatTrees(stump(feature=[0] * 5), 0)


def test_rows_of_another_kind_are_refused() -> None:
    trees = FlatTrees(stump(), 2)
    with pytest.raises(ValueError, match="shape"):
        trees.predict([[1.0]])
    with pytest.raises(ValueError, match="shape"):
        trees.predict([1.0, 2.0])
    with pytest.raises(ValueError, match="infinite"):
        trees.predict([[np.inf, 0.0]])


def test_models_that_sum_otherwise_are_refused() -> None:
    rng = np.random.default_rng(2)
    features = rng.integers(0, 3, (60, 2)).astype(float)
    labels = features[:, 0] % 2 + 1
    by_category = HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=2, categorical_features=[0])
    poisson = HistGradientBoostingRegressor(max_iter=1, loss="poisson")
    with pytest.raises(ValueError, match="categories"):
        FlatTrees.of_boosting([by_category.fit(features, labels)])
    with pytest.raises(ValueError, match="link function"):
        FlatTrees.of_boosting([poisson.fit(features, labels)])
    with pytest.raises(ValueError, match="none"):
        FlatTrees.of_boosting([])
    plain = HistGradientBoostingRegressor(max_iter=1)
    narrow = HistGradientBoostingRegressor(max_iter=1)
    with pytest.raises(ValueError, match="columns"):
        FlatTrees.of_boosting([plain.fit(features, labels), narrow.fit(features[:, :1], labels)])


def test_scikit_learn_is_not_loaded() -> None:
    code = "import engine_ops.ml.models.flat_trees, sys; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
