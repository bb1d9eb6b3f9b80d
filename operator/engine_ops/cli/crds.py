"""`engine-ops crds`: print or write what is generated from the models, or say where it has drifted."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from engine_ops.api.crd import RESOURCES, render
from engine_ops.api.crd_docs import render_docs
from engine_ops.cli.drift import has_drifted


@click.command(name="crds")
@click.option(
    "--output",
    "output_directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write one file for each CRD into this directory.",
)
@click.option(
    "--check",
    "check_directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write nothing; exit 1 and print a diff when the files in this directory (and --docs) differ.",
)
@click.option(
    "--docs",
    "docs_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the API reference to this file; with --check, compare it instead.",
)
def command(output_directory: Path | None, check_directory: Path | None, docs_file: Path | None) -> None:
    """Print the custom resource definitions as YAML, or write or check their files."""
    if output_directory is not None and check_directory is not None:
        raise click.UsageError("--output and --check exclude each other: one writes, the other only compares")
    directory = check_directory or output_directory
    files = {} if directory is None else {directory / name: text for name, text in render().items()}
    if docs_file is not None:
        files[docs_file] = render_docs(RESOURCES)
    if check_directory is not None:
        _check(files, check_directory)
    elif files:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    else:
        click.echo("---\n".join(render().values()), nl=False)


def _check(files: dict[Path, str], directory: Path) -> None:
    """Exit 1 with a unified diff if a file is not as generated, or should not be there."""
    # An old file beside the generated ones would be applied with them.
    leftover = {path: "" for path in sorted(directory.glob("*.yaml")) if path not in files}
    drifted = [path for path, expected in {**files, **leftover}.items() if has_drifted(path, expected)]
    if drifted:
        click.echo("the generated files have drifted: run `engine-ops crds` with --output and --docs", err=True)
        sys.exit(1)
