"""How the operator runs."""

from __future__ import annotations

import dataclasses

from engine_ops.controllers.api_config import ApiConfig
from engine_ops.controllers.history_config import HistoryConfig
from engine_ops.controllers.plugins_config import PluginsConfig


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """How the operator runs.

    Parameters
    ----------
    kubeconfig
        A file; None as `Connection.open` says.
    namespaces
        Those to watch; empty for all.
    lease_namespace
        Where the Lease lives; None for the Pod's own, or that of the kubeconfig.
    cluster_data_namespaces
        A label selector of the namespaces whose requests may see the cluster; None for the operator's own only.
    probes
        Where health is answered, such as ``http://0.0.0.0:8080/healthz``; None for nowhere.
    history
        How the history is kept; None for not at all.
    plugins
        Where plugins run; None for no plugins.
    api
        How the REST API is served; None for not at all.
    """

    kubeconfig: str | None = None
    namespaces: tuple[str, ...] = ()
    lease_namespace: str | None = None
    cluster_data_namespaces: str | None = None
    probes: str | None = "http://127.0.0.1:8080/healthz"
    history: HistoryConfig | None = None
    plugins: PluginsConfig | None = None
    api: ApiConfig | None = None
