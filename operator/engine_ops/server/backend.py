"""What the REST API needs of the rest: an engine that answers, a history to read, and who may do what.

The API is served by a thread with an event loop of its own. What belongs to the engine (`Engine`) runs on the engine's
loop and is reached through `engine_ops.server.bridge`; what asks the API server for permission (`Access`,
`PluginSwitch`) runs on the API's own loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from engine_ops.api.reasons import Reason
from engine_ops.engine.request import SolvedBy
from engine_ops.server.stop_signal import StopSignal

PATH_PREFIX: Final = "/engine-ops"
"""Before a path of this API where a right names it (``nonResourceURLs``): Kubernetes' own ClusterRole system:discovery
gives everybody who is authenticated ``get`` on ``/api/*``, meaning the API server's."""

SERVICE_ACCOUNT: Final = "system:serviceaccount:"


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Parameters
    ----------
    username
        As the API server has it.
    uid
        The same; empty where there is none.
    groups
        Those that the user is in.
    extra
        What else the API server knows of the user.
    token
        The bearer token of this call, for what is done in the caller's name; None where there are no tokens.
    """

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    token: str | None = dataclasses.field(default=None, repr=False)

    @property
    def namespace(self) -> str | None:
        """A ServiceAccount's own namespace; None for other users."""
        if not self.username.startswith(SERVICE_ACCOUNT):
            return None
        namespace, _, name = self.username.removeprefix(SERVICE_ACCOUNT).partition(":")
        return namespace if namespace and name else None


@dataclasses.dataclass(frozen=True, slots=True)
class Right:
    """Something that needs permission: what kubectl would need to do the same.

    Parameters
    ----------
    verb
        ``get``, ``list``, ``create`` ...
    resource
        Of the group ``engineops.dev``; empty for a path of the API itself.
    subresource
        Empty for none.
    namespace
        Empty for what is cluster-scoped, or for all namespaces.
    name
        Of the object; empty for all.
    path
        Where it is a path of the API and no resource (``nonResourceURLs``).
    """

    verb: str
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Unauthenticated(Exception):  # noqa: N818 - the word that HTTP has for it
    """There is no token, or none that is good. The message says which, and tells no secrets."""


class AccessUnavailable(Exception):  # noqa: N818 - as above
    """The API server, who knows, cannot be asked; to be tried again."""


class Access(Protocol):
    """Who calls, and what they may do. Runs on the API's loop."""

    @property
    def open(self) -> bool:
        """Whether there are no tokens: everybody who reaches the port is the user of this machine."""

    async def authenticate(self, token: str | None) -> Caller:
        """Return who calls.

        Raises
        ------
        Unauthenticated
            If the token is missing or not good.
        AccessUnavailable
            If that cannot be known now.
        """

    async def allowed(self, caller: Caller, right: Right) -> bool:
        """Whether a caller has a right.

        Raises
        ------
        AccessUnavailable
            If that cannot be known now.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A request for an answer, as it came over HTTP, with its envelope checked and its data still encoded.

    Parameters
    ----------
    id
        The caller's name for it.
    namespace
        Where it counts.
    username
        Whose it is.
    type
        Of `engine_ops.api.optimizationrequest.RequestType`.
    data, constraints
        JSON of an object each.
    plugin
        The only plugin to ask; ``none`` for no plugin, None for any.
    search_seconds
        Budget for improving the answer.
    timeout_seconds
        Hard limit.
    """

    id: str
    namespace: str
    username: str
    type: str
    data: bytes
    constraints: bytes = b"{}"
    plugin: str | None = None
    search_seconds: float = 1.0
    timeout_seconds: float = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Improvement:
    """The best answer so far is better than before; numbers as in ``status.progress``, None where there is none."""

    objective: float | None
    lower_bound: float | None
    gap: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What became of a question.

    Parameters
    ----------
    success
        Whether everything that was asked for is in the result.
    reason, message
        Of the condition Ready of a resource that asked the same.
    duration_ms
        From the question to the reply, wall clock.
    result
        JSON of the answer, never compressed nor cut; None where there is none.
    score
        0 to 1; None where it is not defined.
    solved_by
        What made the answer.
    faults
        Field path and sentence of what is wrong with the question; paths begin at ``data`` or ``constraints``.
    waiting
        Whether the same question may be answered later: what is missing is not the question's fault.
    cut_off
        Why the search ended early, if it did.
    cacheable
        Whether the same question would get the same answer for as long as `Engine.lineup` stays.
    """

    success: bool
    reason: Reason
    message: str
    duration_ms: int
    result: bytes | None = None
    score: float | None = None
    solved_by: SolvedBy | None = None
    faults: tuple[tuple[str, str], ...] = ()
    waiting: bool = False
    cut_off: str | None = None
    cacheable: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin, as the API shows it.

    Parameters
    ----------
    name
        Of the OptimizerPlugin, or the plugin's own without Kubernetes.
    version, description
        The plugin's own words; empty until it has been opened.
    types
        Request types that it handles.
    enabled, priority, config
        Its settings.
    status
        JSON values for people who look closer: state, message, model, skill, counts, latency, last error.
    """

    name: str
    version: str
    description: str
    types: tuple[str, ...]
    enabled: bool
    priority: int
    config: Mapping[str, Any]
    status: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class PointFilter:
    """Which points of the history.

    Parameters
    ----------
    namespaces
        Those whose points may be seen; None for all, those of no namespace too.
    request_type
        None for all.
    from_ms, to_ms
        Of `timestamp`: milliseconds since the epoch, both ends included; None for no end.
    limit
        The newest so many; None for all.
    """

    namespaces: frozenset[str] | None = None
    request_type: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    limit: int | None = None


class Selection(Protocol):
    """Points of the history as they were at one moment. Can be read on any thread, while others are recorded."""

    def __len__(self) -> int:
        """How many points."""

    def json_lines(self) -> Iterator[bytes]:
        """Return the points, some at a time, as JSON lines (each piece ends with a newline)."""

    def statistics(self) -> Mapping[str, Any]:
        """Return what `engine_ops.ml.WorkloadDataset.get_statistics` does."""

    def training_format(self) -> Mapping[str, Any]:
        """Return features and labels, by name; see `engine_ops.ml.WorkloadDataset`."""

    def parquet(self) -> Iterator[bytes]:
        """Return a Parquet file, in pieces.

        Raises
        ------
        ModuleNotFoundError
            If pyarrow is not installed.
        """


class Engine(Protocol):
    """What answers. Its coroutine methods run on the engine's loop; the others may be called on any thread."""

    @property
    def workers(self) -> int:
        """How many questions are solved at once."""

    def lineup(self, request_type: str, plugin: str | None) -> str:
        """Name who would be asked, in which state of learning: a cached answer is good only while it is the same."""

    async def answer(
        self, question: Question, *, on_improvement: Callable[[Improvement], None], stop: StopSignal
    ) -> Reply:
        """Answer a question, and record it in the history.

        Cancelling ends the work at once, with nothing recorded but that it was given up.

        Parameters
        ----------
        question
            The question.
        on_improvement
            Called on the engine's loop with better and better answers.
        stop
            Belongs to the engine's loop. When it is set the best answer so far is returned, if there is one.
        """

    async def plugins(self) -> Sequence[PluginInfo]:
        """Return all plugins by name."""

    async def plugin(self, name: str) -> PluginInfo | None:
        """Return one; None where there is none of this name."""

    async def history_namespaces(self) -> frozenset[str]:
        """Return the namespaces that there are points of."""

    async def history(self, chosen: PointFilter) -> Selection | None:
        """Return points of the history; None where none is kept."""

    async def health(self) -> Mapping[str, Any]:
        """Return numbers about itself, as JSON values, by part."""


@dataclasses.dataclass(frozen=True, slots=True)
class PluginChange:
    """What of a plugin is to be changed; None for what is not.

    Parameters
    ----------
    enabled, priority, config
        As in the spec of an OptimizerPlugin. ``config`` replaces the whole.
    """

    enabled: bool | None = None
    priority: int | None = None
    config: Mapping[str, Any] | None = None


class PluginNotFound(Exception):  # noqa: N818 - what it is called in HTTP
    """There is no plugin of this name."""


class PluginManaged(Exception):  # noqa: N818
    """Another manager owns what is to be changed, and would change it back.

    Parameters
    ----------
    manager
        Its name, of ``metadata.managedFields``.
    fields
        What it owns of what is to be changed, such as ``spec.enabled``.
    """

    def __init__(self, manager: str, fields: Sequence[str]) -> None:
        self.manager = manager
        self.fields = tuple(fields)
        super().__init__(f"{', '.join(self.fields)} is managed by {manager}, which would change it back")


class PluginChangeRefused(Exception):  # noqa: N818
    """The change is not allowed, or not valid.

    Parameters
    ----------
    status
        Of HTTP: 400, 401, 403, 409, 413, 422, 429.
    message
        The API server's sentence.
    faults
        Field path and sentence each.
    retry_after_seconds
        What the API server asks to wait before the next try; None where it says nothing.
    """

    def __init__(
        self,
        status: int,
        message: str,
        faults: Sequence[tuple[str, str]] = (),
        *,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.faults = tuple(faults)
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class PluginSwitch(Protocol):
    """Changes a plugin's settings in the caller's name. Runs on the API's loop."""

    async def change(self, caller: Caller, name: str, change: PluginChange, *, force: bool) -> None:
        """Change a plugin. What is so already is no error.

        Parameters
        ----------
        caller
            In whose name.
        name
            Of the plugin.
        change
            What.
        force
            Also where another manager owns the field.

        Raises
        ------
        PluginNotFound, PluginManaged, PluginChangeRefused
            If it is not done.
        AccessUnavailable
            If the API server cannot be reached.
        """
