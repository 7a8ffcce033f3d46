"""`tempscale compare`: the comparison as a table, CSV, Markdown or JSON."""

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tempscale.cli.shared import exit_on_user_error, score, table_console, warnings_on_stderr, wrong_argument
from tempscale.comparison.matching import ChoiceError, listing
from tempscale.evaluation.identity import command_line
from tempscale.evaluation.progress import what_was_read
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


class Detail(StrEnum):
    """Rows that are shown on request."""

    length = "length"
    part = "part"


class Versions(StrEnum):
    """What to compare on where data or a model changed under one name."""

    newest = "newest"
    all = "all"


def compare(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that tempscale evaluate wrote.")],
    tasks: Annotated[
        str | None, typer.Option(help="Tasks to compare on, such as 'STS12,SciFact'; all by default.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A model in the folder whose baseline the other models are compared with.")
    ] = None,
    baseline: Annotated[float, typer.Option(help="Temperature to compare with.")] = 1.0,
    by: Annotated[
        list[Detail] | None,
        typer.Option(
            help="Also rows by length, or for the splits and subsets of a task; csv and json have them anyway."
        ),
    ] = None,
    versions: Annotated[
        Versions, typer.Option(help="Where data or a model changed under one name: the newest alone, or all, apart.")
    ] = Versions.newest,
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

    shown = {Detail(one) for one in by or ()}
    everything = form in (Format.csv, Format.json) or out is not None
    with exit_on_user_error(), warnings_on_stderr():
        chosen = None if tasks is None else split_names(tasks)
        try:
            frame = compare_store(
                directory,
                tasks=chosen,
                against=against,
                baseline=baseline,
                versions=versions.value,
                lengths=everything or Detail.length in shown,
            )
        except ChoiceError as error:
            wrong_argument(str(error))
        if out is not None:
            about = {"command": command_line(), "tempscale": version("tempscale")}
            publish(frame, directory, out, about, tasks=chosen, items=items, versions=versions.value)
    if form is Format.csv:
        typer.echo(frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"), nl=False)
    elif form is Format.json:
        typer.echo(frame.to_json(orient="records", indent=1, double_precision=10))
    else:
        frame = frame[~frame.scope.isin(set(Detail) - shown)]
        if form is Format.markdown:
            typer.echo(_markdown(frame))
        else:
            _print_tables(frame)
    if out is not None:
        typer.echo(f"Wrote comparison.csv and units.csv into {out}", err=True)


LEVEL = 0.05
# What the rows of a scope are about.
SCOPES = {
    "task": "On each task",
    "part": "On the splits and subsets of a task",
    "length": "By length",
    "overall": "Mean over the tasks",
    "held-out": "What was best on the other tasks",
    "held-out overall": "Mean of those",
}
_NUMBERS_FROM = 4  # columns from there on are numbers
_NARROWEST = 6  # of a column of text
HEADINGS = ("", "task", "tokens", "setting", "items", "baseline", "difference", "95 % interval", "p")


def readable(frame: "pd.DataFrame") -> dict[str, list[tuple[str, ...]]]:
    """Return the rows for reading, by model, as `HEADINGS` say."""
    models: dict[str, list[tuple[str, ...]]] = {}
    for title, rows in _by_model(frame):
        several = _in_several_states(rows[rows.task != ""], "task", "data_hash")
        for row in rows.to_dict("records"):
            known = row["low"] == row["low"]
            models.setdefault(title, []).append(
                (
                    row["scope"],
                    " ".join(part for part in (row["task"], *_unless_usual(row, several)) if part),
                    row["tokens"],
                    _setting(row).label or "chosen",
                    str(row["items"]),
                    score(row["baseline"]),
                    score(row["difference"], "+"),
                    f"[{row['low']:+.4f}, {row['high']:+.4f}]" if known else "",
                    f"{row['p_holm']:.2g}{'*' if row['p_holm'] <= LEVEL else ''}" if known else "",
                )
            )
    return models


def _by_model(frame: "pd.DataFrame") -> Iterator[tuple[str, "pd.DataFrame"]]:
    """Yield the rows of each model, with its name and what else tells it from others."""
    of_model = ["model", "max_seq_length", "dtype"]
    hashes = frame.groupby(of_model).model_hash.transform("nunique")
    for key, rows in frame.groupby([*of_model, "model_hash", "against"], sort=False):
        name, tokens, dtype, model_hash, against = key
        several = hashes[rows.index[0]] > 1
        title = f"{name}{f' ({model_hash})' if several else ''}, {tokens} tokens, {dtype}"
        yield title + (f", against {against}" if against != name else ""), rows


def _in_several_states(frame: "pd.DataFrame", name: str, state: str) -> set[str]:
    """Return the names of which there are several states."""
    number = frame.groupby(name)[state].nunique()
    return set(number[number > 1].index)


def _setting(row: Mapping[Any, Any]) -> Setting:
    return Setting(*(row[name] for name in Setting._fields))


def _unless_usual(row: Mapping[Any, Any], several: set[str]) -> list[str]:
    where = [row[name] for name, usual in (("split", "test"), ("subset", "default")) if row[name] != usual]
    return [*where, f"({row['data_hash']})"] if row["task"] in several else where


def conclusion(rows: "pd.DataFrame") -> str:
    """Say in one sentence which differences of a model are real.

    Args:
        rows: rows of one model, as `compare` returns them.
    """
    said = []
    for scope, what in (("task", "on a task"), ("overall", "over all tasks")):
        tested = rows[(rows.scope == scope) & rows.p_holm.notna()]
        real = tested[tested.p_holm <= LEVEL]
        if tested.empty:
            continue
        up = int((real.difference > 0).sum())
        largest = real.iloc[real.difference.abs().argsort()[::-1]].to_dict("records")
        named = [
            f"{_setting(row).label}{' on ' + row['task'] if row['task'] else ''} {row['difference']:+.4f}"
            for row in largest
        ]
        listed = f" ({up} up, {len(real) - up} down): {listing(named)}" if named else ""
        said.append(f"{what} {len(real) or 'none'} of {len(tested)}{listed}")
    if not said:
        return "No difference has an interval: there are no tasks with scores of at least ten items."
    return f"Real differences (p at most {LEVEL} after Holm's correction): {'; '.join(said)}."


def _markdown(frame: "pd.DataFrame") -> str:
    parts = []
    for title, rows in readable(frame).items():
        lines = [HEADINGS, tuple("---" for _ in HEADINGS), *rows]
        parts.append("\n".join([f"**{title}**\n", *("| " + " | ".join(line) + " |" for line in lines)]))
    return "\n\n".join(parts)


def _print_tables(frame: "pd.DataFrame") -> None:
    """Print a table for each model and scope, without columns that are empty."""
    width = table_console().width
    tables = readable(frame)
    for title, of_model in _by_model(frame):
        for line in textwrap.wrap(f"{title}: {conclusion(of_model)}", width):
            typer.echo(line)
        for scope, rows in itertools.groupby(tables[title], key=lambda row: row[0]):
            typer.echo(f"\n{SCOPES[scope]}\n")
            typer.echo("\n".join(_lines(list(rows), width)))
        typer.echo()
        for line in what_was_read(of_model[of_model.scope == "task"]):
            typer.echo("\n".join(textwrap.wrap(line, width)))
    typer.echo(f"* p at most {LEVEL} after Holm's correction")


def _lines(rows: Sequence[tuple[str, ...]], width: int) -> Iterator[str]:
    """Yield the lines of a table: numbers are never cut, and text is folded where it would not fit beside them.

    Tables of thousands of rows are usual, for which rich needs longer than all else.
    """
    used = [number for number in range(1, len(HEADINGS)) if any(row[number] for row in rows)]
    table = [tuple(HEADINGS[number] for number in used), *(tuple(row[number] for number in used) for row in rows)]
    of_text = [column for column, number in enumerate(used) if number < _NUMBERS_FROM]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(of_text, key=lambda column: widths[column])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    for number, row in enumerate(table):
        folded = [
            textwrap.wrap(cell, widths[column]) or [""] if column in of_text else [cell]
            for column, cell in enumerate(row)
        ]
        for parts in itertools.zip_longest(*folded, fillvalue=""):
            aligned = [
                part.ljust(widths[column]) if column in of_text else part.rjust(widths[column])
                for column, part in enumerate(parts)
            ]
            yield "  ".join(aligned).rstrip()
        if number == 0:
            yield "  ".join("\u2500" * size for size in widths)
