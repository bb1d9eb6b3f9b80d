"""The commands, each loaded when it is called: `engine-ops --help` must not wait for kopf or numpy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

from engine_ops import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS = {
    "run": ("engine_ops.cli.run", "Run the operator."),
    "serve": ("engine_ops.cli.serve", "Serve the REST API on this machine, without Kubernetes."),
    "plugin-host": ("engine_ops.cli.plugin_host", "Run plugins, each in a process, for the operator."),
    "status": ("engine_ops.cli.status", "Show the operator at a glance."),
    "requests": ("engine_ops.cli.requests", "List requests, and what became of them."),
    "plugins": ("engine_ops.cli.plugins", "List plugins, and how each does."),
    "enable": ("engine_ops.cli.switch:enable", "Let the operator ask a plugin."),
    "disable": ("engine_ops.cli.switch:disable", "Have a plugin asked no more."),
    "doctor": ("engine_ops.cli.doctor", "Look for what is wrong, and say what to do."),
    "solve": ("engine_ops.cli.solve", "Answer manifests without an operator."),
    "explain": ("engine_ops.cli.explain", "Print why an answer is as it is."),
    "history": ("engine_ops.cli.history", "Show the history; import and export it."),
    "crds": ("engine_ops.cli.crds", "Print or write the custom resource definitions."),
    "openapi": ("engine_ops.cli.openapi", "Print or write the OpenAPI document of the REST API."),
    "devcluster": ("engine_ops.cli.devcluster", "A local control plane, without Docker."),
    "completion": ("engine_ops.cli.completion", "Print a script that completes commands and names in a shell."),
}


class _LazyGroup(click.Group):
    """A group that imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name or "command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the names of commands; click's own way would import each for its help."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text) for name, (_, text) in _COMMANDS.items() if name.startswith(incomplete)
        ]
        # As click's groups do, after their commands: the group's own options.
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="engine-ops")
def main() -> None:
    """Optimisation questions as Kubernetes resources, answered with proof of their quality."""
