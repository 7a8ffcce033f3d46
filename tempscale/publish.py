"""A comparison as files to publish: what was compared, the units behind it, and their scores by length."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tempscale.bylength import by_length
from tempscale.folder import new_folder
from tempscale.matching import of_tasks
from tempscale.provenance import write_table
from tempscale.store import Store

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 10


def publish(
    comparison: "pd.DataFrame",
    out: str | Path,
    folder: Path,
    about: dict[str, str],
    *,
    tasks: Sequence[str] | None = None,
) -> None:
    """Write a comparison and what it rests on into a new folder.

    The files are `comparison.csv`, what `compare` returned; `units.csv`, the finished units, without mteb's raw scores;
    and `by_length.csv`, see `tempscale.bylength`. Each has a comment line for each fact above its table.

    Args:
        comparison: of `compare`.
        out: folder that `evaluate` wrote, of which the comparison is.
        folder: to be made; there is none of that name yet, or an empty one.
        about: the facts, such as the command.
        tasks: that were compared; all if None.
    """
    with Store(out, create=False) as store:
        units = of_tasks(store.units(), tasks).drop(columns="scores")
    lengths = by_length(out)
    tables = {"comparison": comparison, "units": units, "by_length": lengths[lengths.task.isin(units.task)]}
    with new_folder(folder) as unfinished:
        for name, table in tables.items():
            write_table(table, unfinished / f"{name}.csv", about, digits=DIGITS)
