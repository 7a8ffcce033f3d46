"""The command line."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tempscale.cli.advise import advise
from tempscale.cli.compare import compare
from tempscale.cli.diagnose import diagnose
from tempscale.cli.evaluate import evaluate
from tempscale.cli.samples import samples
from tempscale.cli.shared import Commands, Model, exit_on_user_error, wrong_argument
from tempscale.cli.spectrum import spectrum
from tempscale.evaluation.identity import versions
from tempscale.files import check_new_folder, new_folder
from tempscale.models import load_model, transformer_of
from tempscale.patching.fold import fold as fold_weights
from tempscale.patching.patch import patch
from tempscale.patching.schedules import check_number

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="What goes wrong is said in one sentence; TEMPSCALE_TRACEBACK=1 in the environment shows its traceback.",
)


def _print_versions(wanted: bool) -> None:
    if wanted:
        for package, version in versions().items():
            typer.echo(f"{package} {version}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_versions, is_eager=True, help="Print versions and exit.")
    ] = False,
) -> None:
    """Length collapse of text embeddings, and TempScale."""


for command in (samples, diagnose, advise, spectrum, evaluate, compare):
    app.command()(command)


@app.command()
def fold(
    model: Model,
    temperature: Annotated[float, typer.Argument(help="Below 1 sharpens attention.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist, or be empty.")],
) -> None:
    """Write a temperature into the weights of a model, and save it: it is then served without tempscale."""
    try:
        check_number(temperature)
        check_new_folder(out)
    except ValueError as error:
        wrong_argument(str(error))
    texts = ["A short text.", "A longer one, of several sentences. " * 20]
    with exit_on_user_error():
        typer.echo(f"Loading {model}", err=True)
        loaded = load_model(model)
        with patch(loaded, temperature) as active:
            layers, patched = len(active.sites), loaded.encode(texts)
        fold_weights(loaded, temperature)
        typer.echo(f"Saving to {out}", err=True)
        with new_folder(out) as folder:
            loaded.save_pretrained(str(folder))
        difference = np.abs(load_model(str(out)).encode(texts) - patched).max()
    typer.echo(
        f"{out}: temperature {temperature!r} in {layers} layers of {type(transformer_of(loaded)).__name__}; "
        f"loaded again, its embeddings differ from the patched model's by {difference:.1e} at most."
    )
