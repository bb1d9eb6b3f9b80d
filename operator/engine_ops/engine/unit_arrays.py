"""Many amounts at once as whole numbers; see `engine_ops.engine.units`, which loads no numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine_ops.engine.units import MAX_UNITS, ULPS, scale_of, too_large_message


def request_units_array(resource: str, amounts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Scale many amounts that are asked for, rounding up. See `request_units`; any shape."""
    return _scale_array(resource, amounts, np.ceil)


def capacity_units_array(resource: str, amounts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Scale many amounts that are offered, rounding down. See `capacity_units`; any shape."""
    return _scale_array(resource, amounts, np.floor)


def _scale_array(resource: str, amounts: npt.ArrayLike, rounded: np.ufunc) -> npt.NDArray[np.int64]:
    scaled = np.asarray(amounts, dtype=np.float64) * scale_of(resource)
    if not bool(np.all(scaled < MAX_UNITS)):
        raise ValueError(too_large_message(resource))
    nearest = np.rint(scaled)
    meant = np.abs(scaled - nearest) <= ULPS * np.spacing(scaled)
    result: npt.NDArray[np.int64] = np.where(meant, nearest, rounded(scaled)).astype(np.int64)
    return result
