"""The naive model: what happened last time, at this time of the day or week where that is known."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from engine_ops.ml.base_model import MIN_TRAINING_POINTS
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.growing import GrowingHistory
from engine_ops.ml.keys import known_at
from engine_ops.ml.models.remembering import RememberingModel
from engine_ops.ml.plugin_interface import MLPluginInterface, PluginMetadata
from engine_ops.ml.prediction import PredictionResult
from engine_ops.ml.request import Request
from engine_ops.ml.scoring import BASELINE_WINDOW, SUCCESS, actual_values, median, nested

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS

_LEAST_IN_SEASON: Final = 3
_FORMAT: Final = 1

# When it was known, which point it is of (they are numbered as they come), and the value.
_Known = tuple[float, int, float]

# Whose outcomes: ("workload" or "type", its name, hour of the season or -1 for all hours).
_Place = tuple[str, str, int]


class SeasonalNaiveModel(RememberingModel):
    """Predicts the median of the last five outcomes (of success: their mean).

    They are those of the same workload in the same hour of the season, where there are three or more; else of the same
    workload; else of the same type and hour; else of the same type. With ``season_ms=None`` hours do not matter, and it
    is the baseline that skill is measured against (`engine_ops.ml.scoring.RecentOutcomes`). The seasonal naive method
    is the usual yardstick for forecasts (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 5.2).

    Parameters
    ----------
    model_id
        Identifies the model.
    season_ms
        Length of a season: whole hours, such as `DAY_MS` or `WEEK_MS`; None for none.

    Raises
    ------
    ValueError
        If the season is not of whole hours.
    """

    def __init__(self, model_id: str = "seasonal-naive", *, season_ms: int | None = DAY_MS) -> None:
        super().__init__(model_id)
        self.season_ms = _season(season_ms)
        # The newest of each scored key, the oldest of them first; places in the order of their last addition.
        self._recent: dict[_Place, dict[str, list[_Known]]] = {}
        self._scored: set[str] = set()
        self._number = 0
        self._oldest = 0

    def train(self, data: Iterable[WorkloadDataPoint]) -> None:
        """Take over the outcomes.

        Raises
        ------
        ValueError
            If there are fewer than 10 known outcomes.
        """
        points = list(data)
        if not self.validate_training_data(points):
            raise ValueError(f"at least {MIN_TRAINING_POINTS} sane data points with a known outcome are needed")
        self.use_history(data if isinstance(data, GrowingHistory) else points)
        self.training_metadata = {"training_samples": len(points), "model_type": "seasonal-naive"}
        self.is_trained = True

    def predict(self, input_data: Mapping[str, Any]) -> PredictionResult:
        """Predict everything that is known of the workload or its type.

        Parameters
        ----------
        input_data
            The request's data, ``type``, and what `WorkloadDataset.features` takes beside them.

        Returns
        -------
        PredictionResult
            ``expected_duration`` (ms), ``success_rate`` and ``recommended_resources``, those that are known. No
            confidence is claimed.

        Raises
        ------
        RuntimeError
            If it is not trained.
        """
        if not self.is_trained:
            raise RuntimeError(f"model {self.model_id!r} is not trained")
        request = Request.of_data({"type": "", **input_data})
        levels = list(self._names(request))
        found = {key: value for key in sorted(self._scored) if (value := self._value(levels, key)) is not None}
        return PredictionResult(nested(found), None, self.model_id)

    def save(self) -> dict[str, Any]:
        """Return the newest outcomes, as JSON values."""
        series = sorted((place, key) for place, recent in self._recent.items() for key in recent)
        kept = (([*place, key], self._values(place, key)) for place, key in series)
        recent = [[*name, values] for name, values in kept if values]
        return {
            "format": _FORMAT,
            "seasonMs": self.season_ms,
            "recent": recent,
            "isTrained": self.is_trained,
            "trainingMetadata": dict(self.training_metadata),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `save` returned.

        Raises
        ------
        ValueError
            If it is none of this model's states; the message says where, and the model is as before.
        """
        if state.get("format") != _FORMAT:
            raise ValueError(f"format: {_FORMAT} is understood, not {state.get('format')!r}")
        recent, metadata = state.get("recent"), state.get("trainingMetadata")
        if not isinstance(recent, list) or not isinstance(metadata, Mapping):
            raise ValueError("recent must be a list, trainingMetadata an object")
        series = dict(_series(f"recent[{index}]", entry) for index, entry in enumerate(recent))
        self.season_ms = _season(state.get("seasonMs"))
        self._start_anew()
        # Whatever comes later is newer.
        self._recent = {}
        for (scope, name, hour, key), values in series.items():
            by_key = self._recent.setdefault((scope, name, hour), {})
            by_key[key] = [(-math.inf, 0, value) for value in values]
        self._scored = {key for *_, key in series}
        self._number = self._oldest = 0
        self.training_metadata = dict(metadata)
        self.is_trained = state.get("isTrained") is True

    def observe(self, point: WorkloadDataPoint) -> None:
        """Add one outcome, in the order of `known_at`: what `use_history` does for a whole history."""
        self._number += 1
        values = actual_values(point)
        if not values:
            return
        known = known_at(point)
        for place in self._names(Request.of_point(point)):
            self._recent[place] = by_key = self._recent.pop(place, {})
            for key, value in values.items():
                recent = by_key.setdefault(key, [])
                if recent and recent[0][1] < self._oldest:
                    recent[:] = [each for each in recent if each[1] >= self._oldest]
                insort(recent, (known, self._number, value))
                if len(recent) > BASELINE_WINDOW:
                    del recent[0]
        self._scored.update(values)

    def _digest(self, points: Iterable[WorkloadDataPoint]) -> None:
        self._recent, self._scored = {}, set()
        self._number = 0
        self._oldest = 1
        for point in points:
            self.observe(point)

    def _extend(self, points: Iterable[WorkloadDataPoint], gone: int) -> bool:
        for point in points:
            self.observe(point)
        self._oldest += gone
        # Those that nothing was added to for long stand first.
        while self._recent:
            place = next(iter(self._recent))
            if any(self._values(place, key) for key in self._recent[place]):
                break
            del self._recent[place]
        return True

    def _values(self, place: _Place, key: str) -> list[float]:
        recent = self._recent.get(place, {}).get(key, ())
        return [value for _, number, value in recent if number >= self._oldest]

    def _names(self, request: Request) -> Iterator[_Place]:
        # The best first.
        scopes = [("type", request.type)]
        if request.workload is not None:
            scopes.insert(0, ("workload", request.workload))
        for scope, name in scopes:
            if self.season_ms is not None:
                yield scope, name, int(request.timestamp % self.season_ms // HOUR_MS)
            yield scope, name, -1

    def _value(self, places: Sequence[_Place], key: str) -> float | None:
        for place in places:
            values = self._values(place, key)
            if len(values) >= (1 if place[2] < 0 else _LEAST_IN_SEASON):
                return math.fsum(values) / len(values) if key == SUCCESS else median(values)
        return None


class SeasonalNaivePlugin(MLPluginInterface):
    """A plugin of the naive model, for every type: what others are compared with, and a modest answer by itself."""

    def __init__(self) -> None:
        metadata = PluginMetadata("seasonal-naive", "1.0.0", "What happened last time, at this time of the day")
        super().__init__(metadata, SeasonalNaiveModel())


def _season(season_ms: Any) -> int | None:
    if season_ms is None:
        return None
    if isinstance(season_ms, bool) or not isinstance(season_ms, int) or season_ms < HOUR_MS or season_ms % HOUR_MS:
        raise ValueError(f"season_ms must be whole hours in milliseconds, is {season_ms!r}")
    return season_ms


def _series(place: str, entry: Any) -> tuple[tuple[str, str, int, str], list[float]]:
    if not isinstance(entry, list) or len(entry) != 5:
        raise ValueError(f"{place}: must be a list of five")
    scope, name, hour, key, values = entry
    if not isinstance(scope, str) or not isinstance(name, str) or not isinstance(key, str):
        raise ValueError(f"{place}: scope, name and key must be strings")
    if isinstance(hour, bool) or not isinstance(hour, int):
        raise ValueError(f"{place}: the hour must be a whole number")
    if not isinstance(values, list) or not values or not all(_is_amount(value) for value in values):
        raise ValueError(f"{place}: values must be finite numbers from 0")
    return (scope, name, hour, key), values[-BASELINE_WINDOW:]


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
