"""`engine-ops openapi`: print or write the REST API's OpenAPI document, or say where it has drifted."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from engine_ops.cli.drift import has_drifted


@click.command(name="openapi", hidden=True)
@click.option(
    "--output",
    "output_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the document to this file.",
)
@click.option(
    "--check",
    "check_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write nothing; exit 1 and print a diff when this file differs.",
)
def command(output_file: Path | None, check_file: Path | None) -> None:
    """Print the OpenAPI document of the REST API, or write or check its file."""
    if output_file is not None and check_file is not None:
        raise click.UsageError("--output and --check exclude each other: one writes, the other only compares")
    from engine_ops.server.openapi_text import render

    text = render()
    if check_file is not None:
        if has_drifted(check_file, text):
            click.echo("the document has drifted: run `engine-ops openapi` with --output", err=True)
            sys.exit(1)
    elif output_file is not None:
        output_file.parent.mkdir(parents=True, exist_ok=True)
        output_file.write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=False)
