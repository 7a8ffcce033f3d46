"""`tempscale evaluate`: MTEB tasks at several temperatures, into a resumable folder."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tempscale.cli.shared import (
    Device,
    DocumentColumn,
    MaxSeqLength,
    Model,
    MoreDocuments,
    QueryColumn,
    RelevanceColumn,
    exit_on_user_error,
    remedies_of,
    schedules,
    score,
    table_console,
    warnings_on_stderr,
    wrong_argument,
)

if TYPE_CHECKING:
    import pandas as pd


class Side(StrEnum):
    """What gets the temperature."""

    both = "both"
    document = "document"
    query = "query"


class Engine(StrEnum):
    """What runs the units."""

    local = "local"
    ray = "ray"


def evaluate(
    model: Model,
    tasks: Annotated[
        str,
        typer.Option(
            help="MTEB tasks or benchmarks: 'STS12,SciFact', 'LongEmbed', 'MTEB(eng, v1)'; subsets of a task: "
            "'AmazonCounterfactualClassification(en,de)'; or a file of your own with the columns query and document: "
            "mine.csv, .tsv, .json, .jsonl or .parquet, also .gz; - is stdin."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results; call again with it to resume.")],
    temperatures: Annotated[
        str, typer.Option(help="Numbers, or schedules: 'LogLength(64)', 'PerLayer({-1: 0.8})', a file of RateMatched.")
    ] = "1.0",
    remedies: Annotated[
        str,
        typer.Option(
            help="What is done to texts or vectors: none, pieces(128), project, pieces(128)+project, centre, whiten(64), "
            "all_but_the_top(3), 'temperature(0.9, layers=last:3)'; each at each "
            "temperature, or at its own."
        ),
    ] = "none",
    layers: Annotated[
        str, typer.Option(help="Layers that get the temperature: all, last:3, first:3, or 0,1,-1.")
    ] = "all",
    apply_to: Annotated[Side, typer.Option(help="Sides of a task that get it; the others keep 1.")] = Side.both,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="TEMPSCALE_DATA",
            help="Folder with a folder for each task, STS12 or mteb/sts12-sts, that holds the files of the hub's data set; "
            "other tasks come from the hub.",
        ),
    ] = None,
    query_column: QueryColumn = None,
    document_column: DocumentColumn = None,
    relevance_column: RelevanceColumn = None,
    documents: MoreDocuments = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of your own files; found out by default.")] = None,
    max_seq_length: MaxSeqLength = None,
    device: Device = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16 (not on a T4) or float16; the checkpoint's by default."),
    ] = None,
    engine: Annotated[Engine, typer.Option(help="This machine, or an existing Ray cluster.")] = Engine.local,
    address: Annotated[
        str | None, typer.Option(help="Address of the Ray cluster; by default the one that Ray finds.")
    ] = None,
) -> None:
    """Evaluate a model on MTEB tasks at several temperatures, and with other remedies.

    Finished units (a split and subset of a task at one temperature, with one remedy) are kept in the folder and never run
    twice: after an interruption the same command resumes, and two that run at once share the work. tempscale compare says
    which differences are real.
    """
    from tempscale.evaluation.evaluate import PlanError
    from tempscale.evaluation.evaluate import evaluate as evaluate_tasks
    from tempscale.evaluation.identity import command_line

    names = _named(
        tasks,
        engine,
        query=query_column,
        document=document_column,
        relevance=relevance_column,
        documents=documents,
        encoding=encoding,
    )
    taus = schedules(temperatures)
    steps = remedies_of(remedies)
    if address is not None and engine is not Engine.ray:
        wrong_argument(f"--address {address!r} is for --engine ray")
    with exit_on_user_error(), warnings_on_stderr():
        try:
            table = evaluate_tasks(
                model,
                names,
                taus,
                out=out,
                remedies=steps,
                layers=layers,
                apply_to=apply_to.value,
                data_dir=data_dir,
                max_seq_length=max_seq_length,
                device=device,
                dtype=dtype,
                engine=engine.value,
                address=address,
                command=command_line(),
            )
        except PlanError as error:
            wrong_argument(str(error))
    _print_scores(table)
    typer.echo(f"Wrote {out / 'results.sqlite'} and {out / 'mteb'}", err=True)


def _named(tasks: str, engine: Engine, **options: str | None) -> list[str]:
    """Return the names of --tasks, files of pairs with how they are read, or exit with one sentence."""
    from tempscale.evaluation.pair_files import PairFile, is_pair_file
    from tempscale.evaluation.tasks import split_names

    names = split_names(tasks)
    files = [name for name in names if is_pair_file(name)]
    for name, value in options.items():
        if value is not None and not files:
            option = name if name in ("documents", "encoding") else f"{name}-column"
            wrong_argument(f"--{option} {value!r} is for a file of your own: name one with --tasks")
    if "-" in files and engine is Engine.ray:
        wrong_argument("--tasks -: the workers of a Ray cluster cannot read this stdin; name a file")
    return [PairFile(name, **options) if name in files else name for name in names]


def _print_scores(table: "pd.DataFrame") -> None:
    """Print the main scores, a row for each part of a task and a column for each setting."""
    from rich.markup import escape
    from rich.table import Table

    from tempscale.evaluation.store import Setting

    labels = [Setting(*row).label for row in table[list(Setting._fields)].itertuples(index=False)]
    settings = list(dict.fromkeys(labels))
    shown = Table(title="Main scores")
    for heading in ("task", "split", "subset", "metric"):
        shown.add_column(heading)
    for setting in settings:
        shown.add_column(escape(setting), justify="right")
    parts = ["task", "split", "subset", "metric"]
    scores = table.assign(setting=labels).set_index([*parts, "setting"]).main_score
    for part in table[parts].drop_duplicates().itertuples(index=False):
        keys = [(*part, setting) for setting in settings]
        shown.add_row(*part, *(score(scores[key]) if key in scores.index else "" for key in keys))
    table_console().print(shown)
