"""What went wrong with a read, in a sentence for whoever runs the operator."""

from __future__ import annotations

from engine_ops.history.outcomes.source import SourceError
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError


def to_source_error(error: ApiError | UnavailableError | ConnectError, right: str, namespace: str) -> SourceError:
    """Return what the collector of outcomes is told.

    Parameters
    ----------
    error
        What reading raised.
    right
        Verbs and resource, such as ``list and watch jobs.batch``.
    namespace
        Where; empty for the whole cluster.

    >>> str(to_source_error(ApiError(403, {"message": "no"}), "list pods", "a"))
    'the operator may not list pods in namespace a: no'
    """
    where = f"in namespace {namespace}" if namespace else "in all namespaces"
    if isinstance(error, ApiError):
        if error.status == 403:
            return SourceError(f"the operator may not {right} {where}: {error.message}")
        return SourceError(f"the API server did not let the operator {right} {where}: {error}")
    return SourceError(f"the API server is away, the operator cannot {right} {where}: {error}")
