"""The command line."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_versions(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        for package in ("tempscale", "torch", "transformers", "sentence-transformers"):
            typer.echo(f"{package} {version(package)}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_versions, is_eager=True, help="Print versions and exit.")
    ] = False,
) -> None:
    """Length collapse of text embeddings, and TempScale."""
