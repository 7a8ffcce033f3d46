"""`tempscale compare`: the comparison as a table, CSV, Markdown or JSON."""

import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tempscale.cli import _one_sentence, _wrong_argument, app

if TYPE_CHECKING:
    import pandas as pd


class Format(StrEnum):
    """How the comparison is written."""

    table = "table"
    csv = "csv"
    markdown = "markdown"
    json = "json"
