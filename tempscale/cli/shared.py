"""What all commands share: how they take a model, and how they say that something is wrong."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from tempscale.cli.schedule_parser import read_temperatures
from tempscale.patching.schedules import Schedule
from tempscale.texts.docstrings import docstrings
from tempscale.texts.files import read_texts

if TYPE_CHECKING:
    from rich.console import Console

Model = Annotated[str, typer.Argument(help="minilm, a hub id, or a local folder.")]
Column = Annotated[str | None, typer.Option(help="Column or key of the file that holds the texts.")]

Value = TypeVar("Value", int, float)


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn what a user can cause into one sentence on stderr and exit status 1."""
    try:
        yield
    except (OSError, ValueError, ModuleNotFoundError, MemoryError) as error:
        typer.echo(f"tempscale: {error}", err=True)
        raise typer.Exit(1) from error


def table_console() -> "Console":
    """Return a console for tables on stdout; a file or a pipe, which has no width of its own, gets 160 columns."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=160)


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


def schedules(given: str) -> list[Schedule]:
    """Return the different temperatures and schedules of --temperatures, or exit with status 2."""
    try:
        return read_temperatures(given)
    except (OSError, ValueError) as error:
        wrong_argument(f"--temperatures {given!r}: {error}")


def given_texts(texts: str, column: str | None, packages: Sequence[str]) -> list[str]:
    """Return the texts of --texts, a file or the docstrings of packages, or exit with one sentence."""
    if texts == "docstrings":
        if column is not None:
            wrong_argument(f"--column {column!r} is for a file of texts: name one with --texts")
        with exit_on_user_error():
            return list(docstrings(packages).text)
    try:
        return read_texts(texts, column)
    except (OSError, ValueError) as error:
        wrong_argument(f"--texts: {error}")
