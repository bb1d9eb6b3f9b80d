"""Names of objects in a cluster for the shell's completion. kubectl is asked: it is there, and starts in no time."""

from __future__ import annotations

from typing import Any, Final

import click

_SECONDS: Final = 3.0
_MAX_NAMES: Final = 200


def complete_requests(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return names of OptimizationRequests of the namespace that was given; for ``shell_complete``."""
    del param
    return _names("optimizationrequests.engineops.dev", ctx.params, incomplete, namespaced=True)


def complete_plugins(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return names of OptimizerPlugins; for ``shell_complete``."""
    del param
    return _names("optimizerplugins.engineops.dev", ctx.params, incomplete)


def complete_namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return names of namespaces; for ``shell_complete``."""
    del param
    return _names("namespaces", ctx.params, incomplete)


def _names(resource: str, given: dict[str, Any], incomplete: str, *, namespaced: bool = False) -> list[str]:
    import subprocess

    # What stands before the word that is completed; where names have no namespace, -n is the operator's.
    options = ("kubeconfig", "context", *(("namespace",) if namespaced else ()))
    chosen = [f"--{option}={given[option]}" for option in options if given.get(option)]
    words = ["kubectl", "get", resource, "-o", "name", f"--request-timeout={_SECONDS:g}s", *chosen]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS + 1, check=False)
    except (OSError, subprocess.SubprocessError):
        return []  # a completion says nothing: there is no place for it
    names = [line.rpartition("/")[2] for line in done.stdout.splitlines()]
    return [name for name in names if name.startswith(incomplete)][:_MAX_NAMES]
