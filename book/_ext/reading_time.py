"""How long the pages take, measured when the book is built.

{minutes}`phenomenon pooling`    "25 minutes to read, 4 minutes to run"; {minutes}`all` counts every chapter
{runtime}`The page runs in`      "The page runs in about two minutes."; left out of the notebooks for Colab

Reading is 200 words of prose a minute, captions included; code, outputs, displayed formulas and what is folded, proofs
and solutions, are not counted. Running is what the execution cache recorded. Both are rounded, so that two builds agree.
"""

import re

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.environment import BuildEnvironment

WORDS_PER_MINUTE = 200
UNCOUNTED = (nodes.literal_block, nodes.math_block, nodes.raw, nodes.comment, nodes.image)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def words(document: nodes.Node) -> int:
    """How many words of prose a page has."""
    if isinstance(document, UNCOUNTED) or _folded(document):
        return 0
    if isinstance(document, nodes.Text):
        return len(re.findall(r"\S*\w\S*", document.astext()))
    if isinstance(document, nodes.math):
        return 1
    return sum(map(words, document.children))


def _folded(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Element) and (
        node.get("design_component") == "dropdown" or "dropdown" in node.get("classes", ())
    )


def seconds(env: BuildEnvironment, page: str) -> float:
    """How long the page's cells took when they were last executed; 0 if it has none."""
    executed = NbMetadataCollector.get_exec_data(env, page)
    return executed["runtime"] if executed else 0.0


def reading(count: int) -> int:
    """Minutes for so many words, in steps of five: `reading(2600)` is 15."""
    return max(5, 5 * round(count / WORDS_PER_MINUTE / 5))


def chapters(env: BuildEnvironment) -> list[str]:
    """Every page that was executed."""
    return [page for page, data in NbMetadataCollector.get_doc_data(env).items() if data.get("exec_data")]


def minutes(env: BuildEnvironment, page: str, content: str) -> str:
    """Both times of the pages that `content` names."""
    folder = page.rpartition("/")[0]
    pages = chapters(env) if content == "all" else [f"{folder}/{name}".lstrip("/") for name in content.split()]
    if unknown := [name for name in pages if name not in env.found_docs]:
        raise ValueError(f"no page {unknown[0]!r}: name pages of this folder, or say all")
    read = reading(sum(words(env.get_doctree(name)) for name in pages))
    run = max(1, round(sum(seconds(env, name) for name in pages) / 60))
    return f"{spoken(read)} to read, {spoken(run)} to run"


def spoken(count: int) -> str:
    """Minutes, or from an hour and a half on half hours: `spoken(95)` is "1.5 hours"."""
    if count < 90:
        return "1 minute" if count == 1 else f"{count} minutes"
    return f"{round(count / 30) / 2:g} hours"


def runtime(env: BuildEnvironment, page: str, content: str) -> str:
    """A sentence that says how long this page runs."""
    took = seconds(env, page)
    if not took:
        raise ValueError(f"{page} has no code that was executed: take the role away")
    rounded = round(took / 60)
    if took < 50:
        return f"{content} less than a minute."
    if rounded <= 1:
        return f"{content} about a minute."
    return f"{content} about {NUMBERS[rounded] if rounded < len(NUMBERS) else rounded} minutes."
