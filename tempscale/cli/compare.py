"""`tempscale compare`: the comparison as a table, CSV, Markdown or JSON."""

import itertools
import textwrap
from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tempscale.cli.shared import exit_on_user_error, table_console, warnings_on_stderr, wrong_argument
from tempscale.comparison import matrix
from tempscale.comparison.matching import ChoiceError
from tempscale.evaluation.identity import command_line
from tempscale.evaluation.progress import what_was_read
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
    """Compare every temperature with the baseline, on the same items: tasks by settings, in points.

    Intervals: 95 %, percentile bootstrap. *: p at most 0.05 by the paired randomisation test, after Holm's correction over
    the tasks of a setting (for a mean over tasks: over the settings); **: also after the correction over all of them.
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
        width = _PAGE if form is Format.markdown else table_console().width
        typer.echo("\n\n".join(_paragraphs(frame, shown, form, width)))
    if out is not None:
        typer.echo(f"Wrote comparison.csv and units.csv into {out}", err=True)


SCOPES = {Detail.part: "On the splits and subsets of a task", Detail.length: "By length"}
_PAGE = 160  # columns of a matrix in Markdown
_LABELS, _HEADING = 18, 12  # columns that labels, together, and a heading may be folded to
Text = list[tuple[str, ...]]


def _paragraphs(frame: "pd.DataFrame", details: set[Detail], form: Format, width: int) -> Iterator[str]:
    """Yield tables and sentences about each model, and last about all."""
    frame = matrix.in_points(frame)
    as_markdown = form is Format.markdown
    fill = str if as_markdown else partial(textwrap.fill, width=width, break_on_hyphens=False)
    table = _markdown if as_markdown else partial(_aligned, width=width)
    for title, rows in matrix.by_model(frame):
        yield fill(f"**{title}**" if as_markdown else title)
        for subtitle, found in matrix.matrices(rows):
            if subtitle:
                yield fill(subtitle)
            yield from (table(block, 1) for block in _blocks(found, width))
        yield from map(fill, matrix.held_out(rows))
        for scope, title in SCOPES.items():
            some = rows[rows.scope == scope]
            if scope in details and len(some):
                yield fill(f"{title}, p after Holm's correction over {matrix.families(some)}")
                yield table(matrix.long_table(some), 3)
        yield from map(fill, what_was_read(rows[rows.scope == "task"]))
    yield from map(fill, [matrix.caption(frame), matrix.conclusion(frame)])


def _blocks(table: matrix.Table, width: int) -> list[Text]:
    """Return a matrix with as much in its cells as fits: upright, or turned if it is wider than high, or else cut."""
    ways = [False, True] if len(table[0]) > len(table) + 1 else [False]
    for style, turned in itertools.product(matrix.Style, ways):
        of_means = matrix.Style.interval if turned else style  # which are one column then
        cells = [
            tuple(cell if isinstance(cell, str) else cell.text(of_means if cell.is_mean else style) for cell in row)
            for row in (zip(*table, strict=True) if turned else table)
        ]
        least = _widths(cells, 1)[1]
        blocks: list[list[int]] = []
        used = width
        for column, size in enumerate(least[1:], start=1):
            used += 2 + size
            if used > width:
                blocks.append([0])
                used = least[0] + 2 + size
            blocks[-1].append(column)
        if len(blocks) == 1:
            break
    return [[tuple(row[column] for column in block) for row in cells] for block in blocks]


def _widths(table: Text, labels: int) -> tuple[list[int], list[int]]:
    """Return the widths that columns would have, and the least: labels and headings are folded, numbers never."""
    wanted, least = [], []
    for number, (heading, *cells) in enumerate(zip(*table, strict=True)):
        longest = max(len(line) for cell in cells for line in cell.split("\n"))
        wanted.append(max(longest, len(heading)))
        least.append(
            min(wanted[-1], _LABELS // labels) if number < labels else max(longest, min(len(heading), _HEADING))
        )
    return wanted, least


def _aligned(table: Text, labels: int, width: int) -> str:
    """Return the lines of a table; of thousands of rows, which are usual, rich would need longer than all else."""
    widths, least = _widths(table, labels)
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(range(len(widths)), key=lambda column: widths[column] * (widths[column] > least[column]))
        if widths[widest] == least[widest]:
            break
        widths[widest] -= 1
    lines = []
    for number, row in enumerate(table):
        folded = [
            cell.split("\n") if number and column >= labels else textwrap.wrap(cell, widths[column])
            for column, cell in enumerate(row)
        ]
        for parts in itertools.zip_longest(*folded, fillvalue=""):
            aligned = [
                part.ljust(size) if column < labels else part.rjust(size)
                for column, (part, size) in enumerate(zip(parts, widths, strict=True))
            ]
            lines.append("  ".join(aligned).rstrip())
        if number == 0:
            lines.append("  ".join("\u2500" * size for size in widths))
    return "\n".join(lines)


def _markdown(table: Text, labels: int) -> str:
    rule = ["---" if column < labels else "---:" for column in range(len(table[0]))]
    rows = ([" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in [table[0], rule, *table[1:]])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
