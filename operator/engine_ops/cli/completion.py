"""`engine-ops completion`: what makes a shell complete commands, options and names."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

_PROGRAM: Final = "engine-ops"
_VARIABLE: Final = "_ENGINE_OPS_COMPLETE"
_NO_FILES: Final = ":4"
"""Of the protocol of kubectl, which is cobra's: ShellCompDirectiveNoFileComp keeps the shell from offering files."""
_DEFAULT: Final = ":0"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(*, shell: str) -> None:
    """Print a script for a shell: source it where the shell starts.

    Commands, options and their values are completed, and names of requests, plugins and namespaces by asking kubectl.

    In bash, source <(engine-ops completion bash) in ~/.bashrc; zsh has the same words for ~/.zshrc; in fish,
    engine-ops completion fish | source in ~/.config/fish/config.fish.
    """
    from click.shell_completion import get_completion_class

    from engine_ops.cli.main import main

    found = get_completion_class(shell)
    if found is None:
        raise AssertionError(f"click knows no {shell}")
    completion = found(main, {}, _PROGRAM, _VARIABLE)
    # Not `source()`: of bash it asks for its version, and this may be printed on another machine than it is used on.
    click.echo(completion.source_template % completion.source_vars())


def kubectl_complete() -> None:
    """Complete ``kubectl engine-ops``, as the program ``kubectl_complete-engine_ops`` that kubectl calls.

    It is called with the words after the plugin's name, the last of them incomplete, and prints a candidate a line and
    then a directive.
    """
    from click.shell_completion import ShellComplete

    from engine_ops.cli.main import main

    os.environ.pop(_VARIABLE, None)
    words = sys.argv[1:] or [""]
    items = ShellComplete(main, {}, _PROGRAM, _VARIABLE).get_completions(words[:-1], words[-1])
    plain = [item for item in items if item.type == "plain"]
    for item in plain:
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    # What click would leave to the shell are files.
    click.echo(_DEFAULT if len(plain) < len(items) else _NO_FILES)
