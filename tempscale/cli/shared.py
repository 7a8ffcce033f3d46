"""What all commands share: how they take a model, and how they say that something is wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn, TypeVar

import typer

from tempscale.cli.schedule_parser import read_temperatures
from tempscale.patching.schedules import Schedule

Model = Annotated[str, typer.Argument(help="minilm, a hub id, or a local folder.")]

Value = TypeVar("Value", int, float)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what a user can cause into one sentence on stderr and exit status 1."""
    try:
        yield
    except (OSError, ValueError, ModuleNotFoundError, MemoryError) as error:
        typer.echo(f"tempscale: {error}", err=True)
        raise typer.Exit(1) from error


def wrong_argument(message: str) -> NoReturn:
    """Say what is wrong with an argument, and exit with status 2."""
    typer.echo(f"tempscale: {message}", err=True)
    raise typer.Exit(2)


def numbers(option: str, given: str, kind: type[Value], check: Callable[[Value], object]) -> list[Value]:
    """Return the different numbers of a list such as "16,64", in its order, or exit with status 2.

    Args:
        option: its name, for the message.
        given: what was given.
        kind: int or float.
        check: raises ValueError for a number that is not possible.
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
