"""`tempscale samples`: two small files to try the other commands on."""

from pathlib import Path
from typing import Annotated

import typer

from tempscale.cli.shared import exit_on_user_error, wrong_argument
from tempscale.files import check_new_folder, new_folder
from tempscale.texts.docstrings import docstrings

_PACKAGES = ("numpy", "scipy")
_TEXTS = 100  # of at least 256 tokens: `diagnose` cuts them to 16, 32, ..., 256
_PAIRS = 300  # of 100, `advise` finds no gain for certain


def samples(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; must not exist, or be empty.")],
) -> None:
    """Write two sample files, of docstrings of numpy and scipy: texts.csv for diagnose, and mine.csv for evaluate.

    texts.csv has the columns name and text, mine.csv the columns query and document: a first paragraph, and what follows it.
    """
    try:
        check_new_folder(out)
    except ValueError as error:
        wrong_argument(str(error))
    with exit_on_user_error():
        found = docstrings(_PACKAGES, min_tokens=24)
        texts = found[found.tokens >= 256].sample(_TEXTS, random_state=0)
        pairs = found[found.pair].sample(_PAIRS, random_state=0)
        with new_folder(out) as folder:
            texts[["name", "text"]].to_csv(folder / "texts.csv", index=False)
            pairs = pairs.rename(columns={"summary": "query", "body": "document"})
            pairs[["query", "document"]].to_csv(folder / "mine.csv", index=False)
    typer.echo(f"Wrote {out / 'texts.csv'} and {out / 'mine.csv'}", err=True)
