"""The saved state of the boosting model, read with care: it may come from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine_ops.ml.features import FeatureSchema
from engine_ops.ml.models.flat_trees import FlatTrees
from engine_ops.ml.scoring import DURATION, RESOURCES

FORMAT: Final = 1


class BoostingState(NamedTuple):
    """What the model takes over; see `QuantileBoostingModel.save`."""

    schema: FeatureSchema
    keys: tuple[str, ...]
    quantiles: tuple[float, ...]
    recommend: float
    trees: FlatTrees
    training_metadata: dict[str, Any]


def read(state: Mapping[str, Any]) -> BoostingState:
    """Return the state, checked.

    Raises
    ------
    ValueError
        If it is none, or its parts do not fit; the message says where.
    """
    if state.get("format") != FORMAT:
        raise ValueError(f"format: {FORMAT} is understood, not {state.get('format')!r}")
    schema = FeatureSchema.from_dict(state.get("schema"))
    keys, arrays, metadata = state.get("keys"), state.get("trees"), state.get("trainingMetadata")
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and _is_key(key) for key in keys):
        raise ValueError(f"keys: must be a list of {DURATION} and {RESOURCES}.<resource>")
    if not isinstance(arrays, Mapping):
        raise ValueError("trees: must be an object of arrays")
    if not isinstance(metadata, Mapping):
        raise ValueError("trainingMetadata: must be an object")
    quantiles = checked_quantiles(state.get("quantiles"))
    recommend = checked_recommend(state.get("recommend"), quantiles)
    trees = FlatTrees(arrays, len(schema.columns))
    if trees.outputs != len(keys) * len(quantiles):
        raise ValueError(f"trees: {trees.outputs} outputs are not {len(keys)} keys of {len(quantiles)} quantiles")
    return BoostingState(schema, tuple(keys), quantiles, recommend, trees, dict(metadata))


def checked_quantiles(quantiles: Any) -> tuple[float, ...]:
    """Return quantiles that rise between 0 and 1, the median among them.

    Raises
    ------
    ValueError
        If they do not.
    """
    if not isinstance(quantiles, Sequence) or not all(isinstance(each, float) for each in quantiles):
        raise ValueError("quantiles: must be a list of fractions")
    rising = all(low < high for low, high in zip((0.0, *quantiles), (*quantiles, 1.0), strict=True))
    if not rising or 0.5 not in quantiles:
        raise ValueError(f"quantiles: must rise between 0 and 1 and hold 0.5, not {list(quantiles)}")
    return tuple(quantiles)


def checked_recommend(recommend: Any, quantiles: tuple[float, ...]) -> float:
    """Return the quantile to recommend.

    Raises
    ------
    ValueError
        If it is none of the quantiles.
    """
    if recommend not in quantiles:
        raise ValueError(f"recommend: must be one of {list(quantiles)}, not {recommend!r}")
    return float(recommend)


def _is_key(key: str) -> bool:
    return key == DURATION or key.startswith(f"{RESOURCES}.")
