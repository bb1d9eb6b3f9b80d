"""Data points as a set: filters, statistics, features and labels, files."""

from __future__ import annotations

import importlib
import math
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from engine_ops.ml import dataset_file
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.features import FeatureSchema
from engine_ops.ml.keys import Outcome, outcome_of
from engine_ops.ml.lags import Lags, keys_of
from engine_ops.ml.request import Request

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_USAGE = "usage:"


class WorkloadDataset:
    """What happened, for a model to learn from.

    Parameters
    ----------
    data_points
        In any order; the order is kept.

    Raises
    ------
    TypeError
        If one is no `WorkloadDataPoint`; the message says which.
    """

    def __init__(self, data_points: Iterable[WorkloadDataPoint] | None = None) -> None:
        self._points: list[WorkloadDataPoint] = []
        self._schema: FeatureSchema | None = None
        self._further: dict[str, Any] = {}
        for point in data_points if data_points is not None else ():
            self.add(point)

    @property
    def data_points(self) -> list[WorkloadDataPoint]:
        """The points, in the order in which they were added."""
        return self._points

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[WorkloadDataPoint]:
        return iter(self._points)

    def __repr__(self) -> str:
        return f"<WorkloadDataset of {len(self)} points>"

    def add(self, point: WorkloadDataPoint) -> None:
        """Add a point.

        Raises
        ------
        TypeError
            If it is none.
        """
        given: object = point  # types are not checked where a plugin calls this
        if not isinstance(given, WorkloadDataPoint):
            where = f"data_points[{len(self._points)}]"
            raise TypeError(f"{where} must be a WorkloadDataPoint, not {type(given).__name__}")
        self._points.append(point)

    def filter_by_type(self, request_type: str) -> Self:
        """Return the points of a request type."""
        return type(self)(point for point in self._points if point.request_type == request_type)

    def filter_by_time_range(self, start: float, end: float) -> Self:
        """Return the points with ``start <= timestamp <= end``, in epoch milliseconds."""
        return type(self)(point for point in self._points if start <= point.timestamp <= end)

    def get_recent(self, n: int) -> Self:
        """Return the ``n`` newest points by timestamp, oldest first; none where ``n`` is 0.

        Of points with one timestamp, those added later are the newer.

        Raises
        ------
        ValueError
            If ``n`` is negative.
        """
        if n < 0:
            raise ValueError(f"n must not be negative, is {n}")
        ordered = sorted(self._points, key=operator.attrgetter("timestamp"))
        return type(self)(ordered[max(0, len(ordered) - n) :])

    def get_statistics(self) -> dict[str, Any]:
        """Return figures on all points, as JSON values.

        Durations that are NaN are left out of every figure on durations. A figure over nothing is None: the success
        rate of an empty data set, the average where no duration is known.

        Returns
        -------
        dict
            ``total_requests``; ``success_rate``, 0 to 1; ``avg_duration``, ``p50_duration`` and ``p95_duration`` in
            milliseconds (quantiles are interpolated linearly); ``time_span_ms``, from the oldest timestamp to the
            newest, 0 where there are fewer than two; ``by_type``, type to ``count``, ``success_rate`` and
            ``avg_duration``.
        """
        from engine_ops.ml.statistics import columns_of, statistics

        return statistics(columns_of(self._points))

    @property
    def schema(self) -> FeatureSchema:
        """The columns of the feature vectors: those of the last `to_features_labels`, else fitted at the first use.

        It can be set, to the schema that a model was trained with.
        """
        if self._schema is None:
            self._schema = FeatureSchema.fit(self._points)
        return self._schema

    @schema.setter
    def schema(self, schema: FeatureSchema) -> None:
        self._schema = schema

    def feature_names(self) -> list[str]:
        """Return the names of the columns of the feature vectors; `FeatureSchema.describe` says what they mean."""
        return self.schema.names()

    def to_features_labels(
        self, target: str = "success", schema: FeatureSchema | None = None
    ) -> tuple[list[list[float]], list[float]]:
        """Return a feature vector and a label for each point that has the label, in the order of the points.

        Features are what was known when the request was made, whatever the target: never an outcome of the point
        itself, and of others only what was known by then. Missing values are NaN.

        Parameters
        ----------
        target
            ``success`` (1 or 0), ``duration`` (ms), or ``usage:<resource>``, such as ``usage:cpu``.
        schema
            The columns; without one they are fitted to the points, and kept in ``schema``.

        Returns
        -------
        tuple
            Vectors and labels. Points without the label are left out, see `labelled`.

        Raises
        ------
        ValueError
            If the target is unknown.
        """
        rows = self.labelled(target)
        label = _label(target)
        self._schema = schema if schema is not None else FeatureSchema.fit(self._points)
        lags = self.lags()
        chosen = [self._points[row] for row in rows]
        vectors = [self._schema.vector(Request.of_point(point), lags) for point in chosen]
        return vectors, [_present(label(outcome_of(point))) for point in chosen]

    def labelled(self, target: str = "success") -> list[int]:
        """Return the positions of the points that `to_features_labels` gives rows for.

        Left out are points whose outcome is unknown (``metadata.outcome.state``); for durations and usage also those
        that are about an answer and not about a workload (``metadata.outcome.of`` is ``request``), and those where the
        number is missing or not finite.

        Raises
        ------
        ValueError
            If the target is unknown.
        """
        label = _label(target)
        return [row for row, point in enumerate(self._points) if label(outcome_of(point)) is not None]

    def features(
        self, request_data: Mapping[str, Any], history: Iterable[WorkloadDataPoint] | Lags | None = None
    ) -> list[float]:
        """Return the feature vector of a request that has no outcome yet.

        It is the vector that `to_features_labels` gives for the request's point, where the history holds the outcomes
        that were known when it was made. More does no harm: what was not known by then is passed over.

        Parameters
        ----------
        request_data
            ``type``, and the fields of the request's data. Where they are there: ``timestamp`` (epoch ms, now if
            absent), ``owner``, ``namespace``, ``workload`` {namespace, kind, name}, ``requested`` {resource: amount},
            and ``request``, the fields as `request_fields` gives them, in place of the data.
        history
            Outcomes to take the lags from: points, or what `lags` returned (much faster for many requests); without
            it the points of this data set.

        Returns
        -------
        list of float
            One value for each of `feature_names`.

        Raises
        ------
        TypeError, ValueError
            If the type or the timestamp is wrong; the message names it.
        """
        request = Request.of_data(request_data)
        if not isinstance(history, Lags):
            points = self._points if history is None else history
            history = Lags(points, frozenset(keys_of(request).values()))
        return self.schema.vector(request, history)

    def lags(self) -> Lags:
        """Return the outcomes of the points, ready to be looked up for many requests."""
        return Lags(self._points)

    def to_numpy(
        self, target: str = "success", schema: FeatureSchema | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return what `to_features_labels` returns, as arrays of shape (rows, columns) and (rows,)."""
        import numpy as np

        vectors, labels = self.to_features_labels(target, schema)
        shape = (len(vectors), len(self.schema.columns))
        return np.array(vectors, dtype=np.float64).reshape(shape), np.array(labels, dtype=np.float64)

    def to_pandas(self, target: str = "success", schema: FeatureSchema | None = None) -> Any:
        """Return what `to_features_labels` returns, as one ``pandas.DataFrame``.

        Its columns are `feature_names` and, last, the label under the target's name; its index is the points'
        positions in this data set.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install 'engine-ops[pandas]'") from error
        vectors, labels = self.to_numpy(target, schema)
        frame = pandas.DataFrame(vectors, columns=self.feature_names(), index=self.labelled(target))
        frame[target] = labels
        return frame

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the points to a JSON file, in one step: readers see the old file or the new one, never a part.

        NaN and infinities are written as ``NaN``, ``Infinity`` and ``-Infinity``, which Python's ``json`` reads back;
        JSON itself has no word for them. Keys that this release does not know are written as they were read.

        Raises
        ------
        TypeError, ValueError
            If metadata hold what is no JSON value; the message names the place.
        OSError
            If the file cannot be written.
        """
        dataset_file.write(Path(path), self._points, self._further)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote, or a JSON array of points; a duration or amount of null is NaN.

        Raises
        ------
        ValueError
            If the file is no data set; the message names the file and the place in it.
        OSError
            If it cannot be read.
        """
        points, further = dataset_file.read(Path(path))
        dataset = cls(points)
        dataset._further = further
        return dataset


def _label(target: Any) -> Callable[[Outcome], float | None]:
    if target == "success":
        return lambda outcome: outcome.success
    if target == "duration":
        return lambda outcome: outcome.duration_ms
    if isinstance(target, str) and target.startswith(_USAGE) and len(target) > len(_USAGE):
        resource = target.removeprefix(_USAGE)
        return lambda outcome: outcome.usage.get(resource)
    raise ValueError(f"target must be success, duration or usage:<resource>, such as usage:cpu, not {target!r}")


def _present(label: float | None) -> float:
    return math.nan if label is None else label
