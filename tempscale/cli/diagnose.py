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
    rendered,
    schedules,
    table_console,
    wrong_argument,
)
from tempscale.files import check_new_folder, new_folder

if TYPE_CHECKING:
    pass

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
    """Say whether longer texts are more alike to a model, what of it is pooling, what a temperature changes, and what to do.

    Up to 100 texts are cut to 16, 32, 64, ... tokens, so that only the length differs. At least 20 different texts of 64
    tokens are needed. With 20, the interval of the rise of the mean cosine reaches 0.05 to 0.08 to either side, and rises
    are about 0.1; with 10 it would reach 0.09 to 0.14, and hardly show a rise; with 100 it reaches 0.02 to 0.03. Longer
    texts are cut to more lengths. It warns of few texts, of texts that all begin alike, and of texts that the tokenizer
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
    from tempscale.embeddings.diagnosis_page import changes_as_text, glossary, html, next_steps, verdict
    from tempscale.evaluation.identity import provenance
    from tempscale.evaluation.progress import duration
    from tempscale.files import write_table
    from tempscale.models import load_model

    with exit_on_user_error():
        typer.echo(f"Loading {model}", err=True)
        loaded = load_model(model)
        typer.echo(f"Reading {len(found_texts)} texts", err=True)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("Embedding", total=1.0)
            found = diagnosis.diagnose(
                loaded,
                found_texts,
                taus,
                estimate=lambda seconds: progress.console.print(f"About {duration(max(seconds, 1))} on this machine"),
                progress=lambda share: progress.update(task, completed=share),
            )
        console = table_console()

        def say(sentence: str, **how: Any) -> None:
            console.print(sentence, markup=False, highlight=False, **how)

        answer, *others = verdict(found)
        for sentence in (answer, *(f"Warning: {caution.sentence}" for caution in found.warnings), *others):
            say(sentence)
        console.print(rendered(changes_as_text(found.cut), f"The same {len(found.texts)} texts, cut"))
        say(glossary(found))
        say("What to do next:")
        for step in next_steps(found, model):
            say(f"- {step.sentence}")
            if step.command:
                say(f"    {step.command}", soft_wrap=True)  # in one line, to be copied
        if out is not None:
            about = provenance(model, loaded, found.texts)
            with new_folder(out) as folder:
                (folder / "report.html").write_text(html(found, about), encoding="utf-8")
                for name in ("cut", "natural", "pooling", "temperatures", "hubs"):
                    table = getattr(found, name)
                    if table is not None:
                        write_table(table, folder / f"{name}.csv", about)
            typer.echo(f"Wrote {out / 'report.html'} and its data", err=True)
