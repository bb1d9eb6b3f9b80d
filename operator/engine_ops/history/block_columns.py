"""What filters and statistics read of a block."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """What can be asked of a block without decompressing it; arrays of one length, not to be written to.

    Parameters
    ----------
    timestamps, durations
        Milliseconds.
    successes
        0 or 1.
    types, namespaces
        Codes: positions in ``type_names`` and ``namespace_names``; the empty name stands for no namespace.
    """

    timestamps: npt.NDArray[np.int64]
    durations: npt.NDArray[np.float64]
    successes: npt.NDArray[np.uint8]
    types: npt.NDArray[np.uint16]
    namespaces: npt.NDArray[np.uint16]
    type_names: tuple[str, ...]
    namespace_names: tuple[str, ...]
