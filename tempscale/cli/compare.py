"""`tempscale compare`: the comparison as a table, CSV, Markdown or JSON."""

import warnings
from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tempscale.cli.shared import exit_on_user_error, table_console, wrong_argument
from tempscale.comparison.matching import ChoiceError
from tempscale.evaluation.identity import command_line
from tempscale.evaluation.store import Setting
from tempscale.files import check_new_folder
from tempscale.patching.schedules import check_number

if TYPE_CHECKING:
    import pandas as pd


class Format(StrEnum):
    """How the comparison is written: for reading, or with all columns and digits."""

    table = "table"
    csv = "csv"
    markdown = "markdown"
    json = "json"


def compare(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that tempscale evaluate wrote.")],
    tasks: Annotated[
        str | None, typer.Option(help="Tasks to compare on, such as 'STS12,SciFact'; all by default.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A model in the folder whose baseline the other models are compared with.")
    ] = None,
    baseline: Annotated[float, typer.Option(help="Temperature to compare with.")] = 1.0,
    form: Annotated[
        Format, typer.Option("--format", help="table and markdown for reading; csv and json hold everything.")
    ] = Format.table,
    out: Annotated[Path | None, typer.Option(help="New folder for comparison.csv and units.csv, to publish.")] = None,
    items: Annotated[
        bool, typer.Option("--items", help="Also items.csv: the score of every item under every setting.")
    ] = False,
) -> None:
    """Compare every temperature with the baseline, on the same items.

    Intervals: 95 %, percentile bootstrap over queries, pairs or rows. p: paired randomisation test, after Holm's
    correction over the tasks of a setting (for the overall mean: over the settings). Held-out: the setting that was best
    on the other tasks.
    """
    try:
        check_number(baseline)
    except ValueError as error:
        wrong_argument(f"--baseline: {error}")
    if not directory.is_dir():
        wrong_argument(f"{directory} is no folder: name the one that tempscale evaluate wrote with --out")
    if items and out is None:
        wrong_argument("--items writes a file: name a folder for it with --out")
    try:
        if out is not None:
            check_new_folder(out)
    except ValueError as error:
        wrong_argument(f"--out: {error}")

    from tempscale.comparison.compare import compare as compare_store
    from tempscale.comparison.publish import publish
    from tempscale.evaluation.tasks import split_names

    with exit_on_user_error(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        chosen = None if tasks is None else split_names(tasks)
        try:
            frame = compare_store(directory, tasks=chosen, against=against, baseline=baseline)
        except ChoiceError as error:
            wrong_argument(str(error))
        if out is not None:
            about = {"command": command_line(), "tempscale": version("tempscale")}
            publish(frame, directory, out, about, tasks=chosen, items=items)
    for warning in caught:
        typer.echo(f"tempscale: {warning.message}", err=True)
    if form is Format.csv:
        typer.echo(frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"), nl=False)
    elif form is Format.json:
        typer.echo(frame.to_json(orient="records", indent=1, double_precision=10))
    elif form is Format.markdown:
        typer.echo(_markdown(frame))
    else:
        _print_tables(frame)
    if out is not None:
        typer.echo(f"Wrote comparison.csv and units.csv into {out}", err=True)


HEADINGS = ("", "task", "tokens", "setting", "items", "baseline", "difference", "95 % interval", "p")


def readable(frame: "pd.DataFrame") -> dict[str, list[tuple[str, ...]]]:
    """Return the rows for reading, by model, as `HEADINGS` say."""
    models: dict[str, list[tuple[str, ...]]] = {}
    for row in frame.to_dict("records"):
        title = f"{row['model']}, {row['max_seq_length']} tokens, {row['dtype']}"
        task = " ".join(part for part in (row["task"], *_unless_default(row)) if part)
        if row["against"] != row["model"]:
            title += f", against {row['against']}"
        setting = Setting(row["temperature"], row["layers"], row["apply_to"], row["remedy"])
        known = row["low"] == row["low"]
        models.setdefault(title, []).append(
            (
                row["scope"],
                task,
                row["tokens"],
                setting.label or "chosen",
                str(row["items"]),
                f"{row['baseline']:.4f}",
                f"{row['difference']:+.4f}",
                f"[{row['low']:+.4f}, {row['high']:+.4f}]" if known else "",
                f"{row['p_holm']:.2g}{'*' if row['p_holm'] <= 0.05 else ''}" if known else "",
            )
        )
    return models


def _unless_default(row: Mapping[Any, Any]) -> list[str]:
    return [row[name] for name, usual in (("split", "test"), ("subset", "default")) if row[name] != usual]


def _markdown(frame: "pd.DataFrame") -> str:
    parts = []
    for title, rows in readable(frame).items():
        lines = [HEADINGS, tuple("---" for _ in HEADINGS), *rows]
        parts.append("\n".join([f"**{title}**\n", *("| " + " | ".join(line) + " |" for line in lines)]))
    return "\n\n".join(parts)


def _print_tables(frame: "pd.DataFrame") -> None:
    from rich.table import Table
    from rich.text import Text

    console = table_console()
    for title, rows in readable(frame).items():
        table = Table(title=Text(title), caption="* p at most 0.05 after Holm's correction", caption_justify="left")
        for number, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if number < 4 else "right")
        scope = rows[0][0]
        for row in rows:
            if row[0] != scope:
                table.add_section()
                scope = row[0]
            table.add_row(*map(Text, row))
        console.print(table)
