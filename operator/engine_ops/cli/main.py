"""The commands, each loaded when it is called: `engine-ops --help` must not wait for kopf or numpy."""

from __future__ import annotations

import importlib

import click

from engine_ops import __version__

_COMMANDS = {
    "run": ("engine_ops.cli.run", "Run the operator."),
    "plugin-host": ("engine_ops.cli.plugin_host", "Run plugins, each in a process, for the operator."),
    "solve": ("engine_ops.cli.solve", "Answer manifests without an operator."),
    "explain": ("engine_ops.cli.explain", "Print why an answer is as it is."),
    "history": ("engine_ops.cli.history", "Show the history; import and export it."),
    "crds": ("engine_ops.cli.crds", "Print or write the custom resource definitions."),
    "devcluster": ("engine_ops.cli.devcluster", "A local control plane, without Docker."),
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
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="engine-ops")
def main() -> None:
    """Optimisation questions as Kubernetes resources, answered with proof of their quality."""
