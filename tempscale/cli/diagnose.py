"""`tempscale diagnose`: is there length collapse in a model on given texts?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tempscale.cli.shared import (
    Column,
    Encoding,
    Model,
    Texts,
    exit_on_user_error,
    given_texts,
    schedules,
    table_console,
    wrong_argument,
)
from tempscale.files import check_new_folder, new_folder

if TYPE_CHECKING:
    import pandas as pd

# The packages whose docstrings are read unless texts are given.
_PACKAGES = ("numpy", "pandas", "scipy", "sklearn")


def diagnose(
    model: Model,
    texts: Texts = "docstrings",
    column: Column = None,
    encoding: Encoding = None,
    temperatures: Annotated[
        str, typer.Option(help="Numbers or schedules, such as 'LogLength(64)', compared with 1.")
    ] = "1.0,0.9,0.8",
    out: Annotated[Path | None, typer.Option(help="New folder for report.html and the data as CSV.")] = None,
) -> None:
    """Say whether a model's embeddings collapse with length, how much of it is pooling, and what a temperature changes.

    Up to 100 texts are cut to 16, 32, 64, ... tokens, so that only the length differs. At least 40 different texts of 64
    tokens are needed; everything longer gives more. It warns of texts that all begin alike, and of texts that the tokenizer
    cannot read.
    """
    taus = schedules(temperatures)
    try:
        if out is not None:
            check_new_folder(out)
    except ValueError as error:
        wrong_argument(f"--out: {error}")
    found_texts = given_texts(texts, column, _PACKAGES, encoding)

    from rich.console import Console
    from rich.progress import Progress

    from tempscale.embeddings import diagnosis
    from tempscale.embeddings.diagnosis_page import changes_as_text, html, verdict
    from tempscale.evaluation.identity import provenance
    from tempscale.files import write_table
    from tempscale.models import load_model

    with exit_on_user_error():
        typer.echo(f"Loading {model}", err=True)
        loaded = load_model(model)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("Embedding", total=1.0)
            found = diagnosis.diagnose(
                loaded, found_texts, taus, progress=lambda share: progress.update(task, completed=share)
            )
        console = table_console()
        for sentence in [*(f"Warning: {sentence}" for sentence in found.warnings), *verdict(found)]:
            console.print(sentence, markup=False, highlight=False)
        console.print(_rendered(changes_as_text(found.cut), f"The same {len(found.texts)} texts, cut"))
        if out is not None:
            about = provenance(model, loaded, found.texts)
            with new_folder(out) as folder:
                (folder / "report.html").write_text(html(found, about), encoding="utf-8")
                for name in ("cut", "natural", "pooling", "temperatures", "hubs"):
                    table = getattr(found, name)
                    if table is not None:
                        write_table(table, folder / f"{name}.csv", about)
            typer.echo(f"Wrote {out / 'report.html'} and its data", err=True)


def _rendered(cells: "pd.DataFrame", title: str) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title))
    for number, heading in enumerate(cells):
        table.add_column(str(heading), justify="right" if number else "left")
    for row in cells.to_numpy():
        table.add_row(*map(escape, row))
    return table
