"""What a plugin is: an algorithm of one's own, or a model with the interface of `engine_ops.ml`."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from engine_ops.api.reasons import Reason
from engine_ops.engine.request import OptimizationMetrics, OptimizationRequest, OptimizationResult, SolvedBy
from engine_ops.ml.plugin_interface import MLPluginInterface, PluginMetadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pydantic

    from engine_ops.ml.data_point import WorkloadDataPoint

MAX_MESSAGE: Final = 1000
"""Characters of an error of a plugin that are kept."""


class PluginError(RuntimeError):
    """A plugin failed, or is none. The message says at what, and how."""


class BaseOptimizationPlugin(abc.ABC):
    """The base of plugins that bring an algorithm rather than a model.

    A subclass sets ``metadata``, as a class attribute or in its ``__init__``, and writes `optimize`.

    Attributes
    ----------
    metadata : PluginMetadata
        Name, version, description, and the request types that it is for.
    config : mapping
        The settings of the last `init`; empty before it.
    is_initialized : bool
        Whether `init` was called, and `shutdown` not since.

    Examples
    --------
    >>> from engine_ops import OptimizationRequest
    >>> from engine_ops.ml import PluginMetadata
    >>> class First(BaseOptimizationPlugin):
    ...     metadata = PluginMetadata("first", "1.0.0", "Takes the first node", supported_types=["scheduling"])
    ...
    ...     def optimize(self, request, historical_data=None):
    ...         return self.answer(request, {"nodeId": request.data["nodes"][0]["id"]})
    >>> plugin = First()
    >>> plugin.init()
    >>> plugin.optimize(OptimizationRequest(id="a", type="scheduling", data={"nodes": [{"id": "n1"}]})).result
    {'nodeId': 'n1'}
    """

    metadata: PluginMetadata
    config: Mapping[str, Any] = MappingProxyType({})
    is_initialized: bool = False

    config_schema: ClassVar[type[pydantic.BaseModel] | None] = None
    """The shape of the settings, or None where anything goes. `init` checks against it and fills in defaults."""

    def init(self, config: Mapping[str, Any] | None = None) -> None:
        """Make ready. Called before the first request, and again when the settings change.

        Parameters
        ----------
        config
            The plugin's own settings; None is an empty mapping.

        Raises
        ------
        pydantic.ValidationError
            If `config_schema` rejects them; those before stay.
        Exception
            Whatever an override raises: the plugin is then not used.
        """
        given = dict(config) if config is not None else {}
        self.config = given if self.config_schema is None else self.config_schema.model_validate(given).model_dump()
        self.is_initialized = True

    def can_handle(self, request: OptimizationRequest) -> bool:
        """Return whether to ask the plugin: by default, whether the request's type is one of its ``supported_types``.

        An override must be quick, and leave the request as it is.
        """
        types = self.metadata.supported_types
        return types is None or request.type in types

    @abc.abstractmethod
    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        """Answer a request.

        Parameters
        ----------
        request
            The question; not to be changed.
        historical_data
            What happened so far, oldest first; None where no history is kept.

        Returns
        -------
        OptimizationResult
            With ``success=False`` where there is no answer: see `answer` and `refuse`.
        """

    def shutdown(self) -> None:
        """Let go of what `init` took. The plugin may be initialised again."""
        self.is_initialized = False

    def answer(
        self,
        request: OptimizationRequest,
        result: Mapping[str, Any],
        *,
        algorithm: str | None = None,
        duration_ms: int = 0,
        score: float | None = None,
    ) -> OptimizationResult:
        """Return an answer.

        Parameters
        ----------
        request
            What was asked.
        result
            In the type's shape, or advice for the built-in algorithm.
        algorithm
            What made it; the plugin's name unless given.
        duration_ms
            How long it took, in milliseconds.
        score
            0 to 1, as the plugin sees it.
        """
        return OptimizationResult(
            request_id=request.id,
            success=True,
            result=dict(result),
            reason=Reason.SOLVED,
            metrics=OptimizationMetrics(duration_ms=duration_ms, score=score),
            solved_by=SolvedBy(algorithm=algorithm or self.metadata.name, version=self.metadata.version),
        )

    def refuse(
        self, request: OptimizationRequest, error: str, *, reason: str = Reason.NOT_ENOUGH_DATA
    ) -> OptimizationResult:
        """Return that there is no answer.

        Parameters
        ----------
        request
            What was asked.
        error
            Why: one sentence.
        reason
            One word for it, of `engine_ops.api.reasons.Reason`.
        """
        return OptimizationResult(
            request_id=request.id,
            success=False,
            error=error,
            reason=reason,
            metrics=OptimizationMetrics(duration_ms=0),
        )


Plugin = MLPluginInterface | BaseOptimizationPlugin
"""What a registry takes."""


def describe_failure(error: BaseException) -> str:
    """Return type and text of an error of a plugin in one bounded line, even where the text cannot be had."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - it is foreign code that writes the text
        text = "its text cannot be read"
    line = " ".join(f"{type(error).__name__}: {text}".split()) if text else type(error).__name__
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 1]}…"
