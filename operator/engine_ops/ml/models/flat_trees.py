"""Gradient-boosted trees as flat arrays: predicting with numpy alone, and the form in which a model is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_CHUNK: Final = 1 << 20
"""Nodes that are looked at in one step: bounds the memory of many rows."""

_ARRAYS: Final[Mapping[str, Any]] = {
    "feature": np.int32,
    "threshold": np.float64,
    "missing_left": np.bool_,
    "left": np.int32,
    "right": np.int32,
    "value": np.float64,
    "roots": np.int32,
    "first_tree": np.int32,
    "baseline": np.float64,
}


class FlatTrees:
    """Sums of decision trees, one sum an output.

    A row goes left at a node where ``row[feature] <= threshold``, or where the value is missing and ``missing_left``
    says so. All trees are walked at once, a level a step, so that the time grows with their depth, not their number.

    Parameters
    ----------
    arrays
        Of ``nodes`` nodes, ``trees`` trees and ``outputs`` outputs: ``feature``, ``threshold``, ``missing_left``,
        ``left``, ``right``, ``value`` of shape (nodes,); ``roots``, the first node of each tree, of shape (trees,);
        ``first_tree``, the first tree of each output, and ``baseline``, what its sum begins with, of shape
        (outputs,). A leaf has itself for both children; other nodes stand before their children.
    columns
        Values in a row.

    Raises
    ------
    ValueError
        If an array is missing or does not fit the others; the message names it. State is read from outside, and a
        cycle among nodes would otherwise never end.
    """

    def __init__(self, arrays: Mapping[str, Any], columns: int) -> None:
        self.columns = columns
        self._arrays = {name: _array(arrays, name, dtype) for name, dtype in _ARRAYS.items()}
        for name, why in self._faults():
            raise ValueError(f"{name}: {why}")
        left, right = self._arrays["left"], self._arrays["right"]
        self._roots = self._arrays["roots"].astype(np.intp)[:, np.newaxis]
        self._value = self._arrays["value"]
        self._first_tree = self._arrays["first_tree"]
        self._baseline = self._arrays["baseline"][:, np.newaxis]
        # A row is laid down twice, with -inf and with inf for what is missing. A node looks at the copy that leads
        # where its missing values go, and needs no second question. The comparison is strict, for inf stands right of
        # everything: also where the threshold is inf, which parts the missing values from all others.
        self._column = self._arrays["feature"] + np.where(self._arrays["missing_left"], 0, columns)
        self._bound = np.nextafter(self._arrays["threshold"], np.inf)
        self._children = np.column_stack([right, left]).astype(np.intp).ravel()
        self._depth = _depth(left, right, self._arrays["roots"])

    @property
    def outputs(self) -> int:
        """How many sums there are."""
        return len(self._baseline)

    @property
    def trees(self) -> int:
        """How many trees there are, of all outputs."""
        return len(self._roots)

    def predict(self, rows: npt.ArrayLike) -> Floats:
        """Return the sums of each row.

        Parameters
        ----------
        rows
            Shape (rows, columns): finite, or NaN where a value is missing.

        Returns
        -------
        numpy.ndarray
            Shape (rows, outputs).

        Raises
        ------
        ValueError
            If the shape is another, or a value is infinite.
        """
        values = np.asarray(rows, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.columns:
            raise ValueError(f"rows must be of shape (rows, {self.columns}), not {values.shape}")
        missing = np.isnan(values)
        if np.isinf(values).any():
            raise ValueError("rows must hold no infinite value")
        twice = np.concatenate([np.where(missing, -np.inf, values), np.where(missing, np.inf, values)], axis=1)
        chunk = max(1, _CHUNK // self.trees)
        parts = [self._sums(twice[begin : begin + chunk]) for begin in range(0, len(twice), chunk)]
        return np.concatenate(parts) if parts else np.empty((0, self.outputs))

    def _sums(self, twice: Floats) -> Floats:
        count, width = twice.shape
        flat = twice.ravel()
        offsets = np.arange(0, count * width, width)
        # Trees first: their values are then added row by row of memory.
        node = np.broadcast_to(self._roots, (self.trees, count))
        for _ in range(self._depth):
            is_left = flat.take(self._column.take(node) + offsets) < self._bound.take(node)
            node = self._children.take(2 * node + is_left)
        sums: Floats = np.add.reduceat(self._value.take(node), self._first_tree, axis=0)
        sums += self._baseline
        return sums.T

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what the constructor takes, as copies."""
        return {name: array.copy() for name, array in self._arrays.items()}

    @classmethod
    def of_boosting(cls, regressors: Sequence[Any]) -> Self:
        """Return the trees of scikit-learn's fitted ``HistGradientBoostingRegressor``, one an output.

        The sums are equal to what their ``predict`` returns, but for the order of additions, where the loss has no
        link function: squared error, absolute error and quantile.

        Raises
        ------
        ValueError
            If there is none, they differ in columns, have a link function, or split a column by categories: the
            columns of a `FeatureSchema` are numbers, its categories one-hot.
        """
        if not regressors:
            raise ValueError("regressors: there is none")
        columns = int(regressors[0].n_features_in_)
        nodes: list[npt.NDArray[Any]] = []
        roots: list[int] = []
        first_tree: list[int] = []
        baseline: list[float] = []
        total = 0
        for regressor in regressors:
            if regressor.n_features_in_ != columns:
                raise ValueError(f"regressors: one has {columns} columns, another {regressor.n_features_in_}")
            if regressor.loss not in ("squared_error", "absolute_error", "quantile"):
                raise ValueError(f"regressors: the loss {regressor.loss} has a link function")
            first_tree.append(len(roots))
            # scikit-learn has no public way to its trees; the tests hold this one against `predict`.
            baseline.append(float(np.ravel(regressor._baseline_prediction)[0]))  # noqa: SLF001
            for (tree,) in regressor._predictors:  # noqa: SLF001
                nodes.append(_shifted(tree.nodes, total))
                roots.append(total)
                total += len(tree.nodes)
        merged = np.concatenate(nodes)
        if merged["is_categorical"].any():
            raise ValueError("regressors: one splits a column by categories")
        arrays: dict[str, Any] = {
            "feature": merged["feature_idx"],
            "threshold": merged["num_threshold"],
            "missing_left": merged["missing_go_to_left"],
            "left": merged["left"],
            "right": merged["right"],
            "value": merged["value"],
            "roots": roots,
            "first_tree": first_tree,
            "baseline": baseline,
        }
        return cls(arrays, columns)

    def _faults(self) -> Iterator[tuple[str, str]]:
        arrays = self._arrays
        size, trees, outputs = len(arrays["value"]), len(arrays["roots"]), len(arrays["baseline"])
        if self.columns < 1:
            yield "columns", f"must be 1 or more, is {self.columns}"
        for name in ("feature", "threshold", "missing_left", "left", "right"):
            if len(arrays[name]) != size:
                yield name, f"there are {size} nodes, and {len(arrays[name])} of these"
        yield from _bad_order("roots", arrays["roots"], size)
        if len(arrays["first_tree"]) != outputs:
            yield "first_tree", f"there are {outputs} outputs, and {len(arrays['first_tree'])} of these"
        yield from _bad_order("first_tree", arrays["first_tree"], trees)
        if (arrays["feature"] < 0).any() or (arrays["feature"] >= self.columns).any():
            yield "feature", f"must lie between 0 and {self.columns - 1}"
        if np.isnan(arrays["threshold"]).any():
            yield "threshold", "must not be NaN"
        for name in ("value", "baseline"):
            if not np.isfinite(arrays[name]).all():
                yield name, "must be finite"
        itself = np.arange(size)
        leaf = (arrays["left"] == itself) & (arrays["right"] == itself)
        for name in ("left", "right"):
            child = arrays[name]
            if (child >= size).any() or not (leaf | (child > itself)).all():
                yield name, "a node's children must stand behind it; a leaf is its own"


def _array(arrays: Mapping[str, Any], name: str, dtype: Any) -> npt.NDArray[Any]:
    if name not in arrays:
        raise ValueError(f"{name}: missing")
    try:
        array = np.ascontiguousarray(arrays[name])
        with np.errstate(invalid="ignore"):  # NaN as a whole number is another number, and found below
            converted = array.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None
    if converted.ndim != 1:
        raise ValueError(f"{name}: must have one dimension, has {converted.ndim}")
    if not np.issubdtype(dtype, np.floating) and not np.array_equal(converted, array):
        raise ValueError(f"{name}: must fit {np.dtype(dtype).name}")
    return converted


def _bad_order(name: str, first: npt.NDArray[Any], size: int) -> Iterator[tuple[str, str]]:
    if not len(first) or first[0] != 0 or (np.diff(first) < 1).any() or first[-1] >= size:
        yield name, f"must rise from 0 and stay below {size}"


def _shifted(nodes: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
    """Return the nodes of one tree as those of a forest: children counted from its first node, leaves their own."""
    own = nodes.copy()
    leaf = own["is_leaf"].astype(bool)
    position = np.arange(first, first + len(own), dtype=np.uint32)
    for child in ("left", "right"):
        own[child] = np.where(leaf, position, own[child] + np.uint32(first))
    own["feature_idx"][leaf] = 0
    own["num_threshold"][leaf] = 0
    return own


def _depth(left: npt.NDArray[Any], right: npt.NDArray[Any], roots: npt.NDArray[Any]) -> int:
    """Return the steps from a root to the deepest leaf."""
    level, depth = np.unique(roots), 0
    while True:
        # A node has no way back to itself, so that a level holds each node once and the walk ends.
        inner = level[left[level] != level]
        if not len(inner):
            return depth
        level = np.unique(np.concatenate([left[inner], right[inner]]))
        depth += 1
