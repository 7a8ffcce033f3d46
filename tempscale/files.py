"""Results in a folder or a file that is there as a whole or not at all, and tables with what they were made with."""

import csv
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def check_new_folder(out: Path) -> None:
    """Raise ValueError unless a folder can be made there: nothing is ever written over.

    >>> check_new_folder(Path(tempfile.mkdtemp()))
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder: name a new one")
    check_can_be_made(out)


def check_can_be_made(out: Path) -> None:
    """Raise ValueError if a file stands where the folder, or a folder above it, should be.

    >>> check_can_be_made(Path(tempfile.mkdtemp()) / "new" / "folder")
    """
    nearest = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise ValueError(f"{out} cannot be made: {nearest.name} is not a folder")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write to, and put it in its place when all is written; after an error nothing is left.

    >>> out = Path(tempfile.mkdtemp()) / "results"
    >>> with new_folder(out) as unfinished:
    ...     _ = (unfinished / "table.csv").write_text("1")
    >>> [path.name for path in out.iterdir()]
    ['table.csv']
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".tempscale-", dir=out.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.replace(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write to, and put it in its place when all is written; several processes may do so at once.

    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> with replacing(path) as first, replacing(path) as second:
    ...     _ = first.write_text("1"), second.write_text("2")
    >>> path.read_text(), [other.name for other in path.parent.iterdir()]
    ('1', ['table.csv'])
    """
    # Not the name that readers of the folder look for.
    with tempfile.TemporaryDirectory(prefix=".tempscale-", dir=path.parent) as folder:
        unfinished = Path(folder) / f"{path.name}.unfinished"
        yield unfinished
        unfinished.replace(path)


def write_table(table: "pd.DataFrame", path: Path, about: dict[str, str], *, digits: int = 4) -> None:
    """Write a table as CSV, below a comment line for each fact: `pandas.read_csv(path, comment="#")`.

    Args:
        table: table to write, without its index.
        path: path of the file.
        about: facts by name.
        digits: number of significant digits.

    >>> import pandas, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> write_table(pandas.DataFrame({"rate": [1 / 3]}), path, {"model": "minilm"})
    >>> path.read_text()
    '# model: minilm\\nrate\\n0.3333\\n'
    """
    facts = "".join(f"# {key}: {' '.join(value.split())}\n" for key, value in about.items())
    text = table.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n")
    if "#" in text:  # in quotes it starts no comment
        text = table.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    path.write_text(facts + text, encoding="utf-8")
