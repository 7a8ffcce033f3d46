"""The role for a number that another chapter computed.

{measured}`phenomenon.cosine_16:.3f` is the value that the chapter `phenomenon` glued as `cosine_16`, as 0.124. A chapter,
a name or a format that does not exist is a warning, and so fails the build.
"""

import ast
import json

from repository import ROOT
from sphinx.environment import BuildEnvironment

EXECUTED = ROOT / "_build" / "jupyter_execute" / "book"
Value = float | int | str


def glued(chapter: str) -> dict[str, Value]:
    """The values that one executed chapter hands to its prose; none if it was not executed."""
    file = EXECUTED / f"{chapter}.glue.json"
    if not file.is_file():
        return {}
    records = json.loads(file.read_text("utf-8"))
    return {name: ast.literal_eval(record["data"]["text/plain"]) for name, record in records.items()}


def fill(env: BuildEnvironment, page: str, content: str) -> str:
    """`chapter.name:format` as text."""
    place, _, form = content.partition(":")
    chapter, _, name = place.partition(".")
    values = glued(chapter)
    if name not in values:
        raise ValueError(f"no executed chapter glues {place!r}: correct it, as chapter.name:format")
    return format(values[name], form)
