"""The engine's configuration."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How an `engine_ops.OptimizationEngine` works.

    Parameters
    ----------
    search_seconds
        The budget for improving an answer, where the request names none; 0 stops at the first answer.
    max_steps
        Stop a search after so many steps, for answers that depend on the seed alone; None for no such limit.
    seed
        Of every random choice.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    search_seconds: float = 1.0
    max_steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.search_seconds <= 3600:
            raise ValueError(f"search_seconds must be from 0 to 3600, not {self.search_seconds}")
        if self.max_steps is not None and self.max_steps < 0:
            raise ValueError(f"max_steps must not be negative, is {self.max_steps}")
