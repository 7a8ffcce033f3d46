"""What all commands share: how they take a model, and how they say that something is wrong."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperGroup

from tempscale.cli.schedule_parser import read_temperatures
from tempscale.embeddings.remedies import Remedy, read_remedies
from tempscale.evaluation.failures import EXPECTED, sentence, show_traceback
from tempscale.patching.schedules import Schedule
from tempscale.texts.docstrings import docstrings
from tempscale.texts.files import read_texts

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

Model = Annotated[str, typer.Argument(help="minilm, a hub id, or a local folder.")]
Texts = Annotated[
    str,
    typer.Option(
        help="docstrings (of scientific packages), or a file: .txt, .csv, .tsv, .json, .jsonl or .parquet, also .gz; "
        "- is stdin."
    ),
]
Column = Annotated[
    str | None, typer.Option(help="Column or key of the file that holds the texts: text, or question.text.")
]
Encoding = Annotated[
    str | None, typer.Option(help="Encoding of the file; found out by default: UTF-8, UTF-16 or Windows-1252.")
]
MoreDocuments = Annotated[
    str | None, typer.Option(help="File of more documents to choose from, besides those of your own pairs.")
]
QueryColumn = Annotated[
    str | None, typer.Option(help="Column or key of the queries in a file of your own; query by default.")
]
DocumentColumn = Annotated[str | None, typer.Option(help="Column or key of the documents; document by default.")]
RelevanceColumn = Annotated[
    str | None,
    typer.Option(help="Column or key of grades, 0 (not relevant), 1, 2, ...; relevance by default, if there is one."),
]
MaxSeqLength = Annotated[int | None, typer.Option(help="Length in tokens at which texts are cut; else the model's.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; the best one by default.")]

Value = TypeVar("Value", int, float)


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn what a user can cause into one sentence on stderr and exit status 1."""
    try:
        yield
    except EXPECTED as error:
        _say(error)
        raise typer.Exit(1) from error


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Print each warning as a sentence on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"tempscale: {message}", err=True)
        yield


def _say(error: BaseException) -> None:
    with suppress(OSError):  # stderr may be full, too
        show_traceback(error)
        typer.echo(f"tempscale: {sentence(error)}", err=True)


class Terminated(KeyboardInterrupt):
    """The process was asked to end, by SIGTERM."""


class Commands(TyperGroup):
    """The commands, with a net below them: whatever a user, a disk or a library does, there is a sentence and a status.

    An interruption is said, with the status that shells give it: 130 (SIGINT) or 143 (SIGTERM).
    """

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with _terminable():
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            said = "; ".join(filter(None, ("interrupted", str(interrupt))))
            with suppress(OSError):
                typer.echo(f"tempscale: {said}", err=True)
            raise typer.Exit(143 if isinstance(interrupt, Terminated) else 130) from interrupt

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Read the command line and run it."""
        try:
            try:
                return super().main(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except Exception as error:  # noqa: BLE001 - the net of a command: nobody else is left to say it
            if not isinstance(error, BrokenPipeError):  # whoever reads has enough
                _say(error)
            # What is left to write is tried again at exit, and fails again.
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            sys.exit(1)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, with everything tidied up."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # only there signals are handled
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def table_console() -> "Console":
    """Return a console for tables on stdout, at least 80 columns wide; what has no width of its own gets 160."""
    from rich.console import Console

    console = Console()
    return Console(width=max(80, console.width) if console.is_terminal else 160)


def rendered(cells: "pd.DataFrame", title: str, left: int = 1) -> Any:
    """Return a table of text for a console, the first columns to the left and the others to the right."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title))
    for number, heading in enumerate(cells):
        table.add_column(str(heading), justify="left" if number < left else "right")
    for row in cells.to_numpy():
        table.add_row(*map(escape, row))
    return table


def score(value: float) -> str:
    """Return a score for reading, which may be none.

    >>> score(0.25), score(float("nan"))
    ('0.2500', 'not defined')
    """
    return f"{value:.4f}" if value == value else "not defined"


def wrong_argument(message: str) -> NoReturn:
    """Say what is wrong with an argument, and exit with status 2."""
    typer.echo(f"tempscale: {message}", err=True)
    raise typer.Exit(2)


def parse_numbers(option: str, given: str, kind: type[Value], check: Callable[[Value], object]) -> list[Value]:
    """Return the different numbers of a list such as "16,64", in its order, or exit with status 2.

    Args:
        option: name of the option, for the message.
        given: text that was given.
        kind: type of the numbers.
        check: function that raises ValueError for a number that is not possible.
    """
    found: list[Value] = []
    for part in given.split(","):
        try:
            found.append(kind(part))
        except ValueError:
            wrong_argument(f"{option} {given!r}: {part!r} is no number; expected numbers with commas between them")
        try:
            check(found[-1])
        except ValueError as error:
            wrong_argument(f"{option} {given!r}: {error}")
    return list(dict.fromkeys(found))


def remedies_of(given: str) -> list[Remedy]:
    """Return the different remedies of --remedies, or exit with status 2."""
    try:
        return read_remedies(given)
    except ValueError as error:
        wrong_argument(f"--remedies: {error}")


def schedules(given: str) -> list[Schedule]:
    """Return the different temperatures and schedules of --temperatures, or exit with status 2."""
    try:
        return read_temperatures(given)
    except (OSError, ValueError) as error:
        wrong_argument(f"--temperatures {given!r}: {error}")


def given_texts(texts: str, column: str | None, packages: Sequence[str], encoding: str | None = None) -> list[str]:
    """Return the different texts of --texts, a file or the docstrings of packages, or exit with one sentence."""
    if texts == "docstrings":
        for option, given in (("--column", column), ("--encoding", encoding)):
            if given is not None:
                wrong_argument(f"{option} {given!r} is for a file of texts: name one with --texts")
        with exit_on_user_error():
            return list(docstrings(packages).text)
    try:
        with warnings_on_stderr():
            found = read_texts(texts, column, at_least=2, encoding=encoding)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        wrong_argument(f"--texts: {error}")
    distinct = list(dict.fromkeys(found))
    if len(distinct) < len(found):
        typer.echo(f"tempscale: {len(found) - len(distinct)} of {len(found)} texts are repeated and left out", err=True)
    return distinct
