"""The role for a number that another chapter computed.

{measured}`phenomenon.cosine_16:.3f` is the value that the chapter `phenomenon` glued as `cosine_16`, as 0.124. A chapter,
a name or a format that does not exist is a warning, and so fails the build.
"""

import ast
import json
from pathlib import Path

from repository import ROOT
from sphinx.environment import BuildEnvironment

EXECUTED = ROOT / "_build" / "jupyter_execute" / "book"
Value = float | int | str


def texts(file: Path) -> dict[str, str]:
    """The `repr` of each value in a file that one executed chapter left for its prose."""
    return {name: record["data"]["text/plain"] for name, record in json.loads(file.read_text("utf-8")).items()}


def glued(chapter: str) -> dict[str, Value]:
    """The values that one executed chapter hands to its prose; none if it was not executed."""
    file = EXECUTED / f"{chapter}.glue.json"
    return {name: ast.literal_eval(text) for name, text in texts(file).items()} if file.is_file() else {}


def fill(env: BuildEnvironment, page: str, content: str) -> str:
    """`chapter.name:format` as text."""
    place, _, form = content.partition(":")
    chapter, _, name = place.partition(".")
    values = glued(chapter)
    if name not in values:
        raise ValueError(f"no executed chapter glues {place!r}: correct it, as chapter.name:format")
    return format(values[name], form)
