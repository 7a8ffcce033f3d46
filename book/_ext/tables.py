"""Tables that pandas wrote: columns of numbers are set to the right, with their headings, and text to the left.

Negative numbers get a true minus. On a phone each row of a wide table of text becomes a card, where a page asks for it
with the class `cards`: the style sheet sets the cells one below the other, each under the heading of its column.
"""

import re
from itertools import count
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from typography import with_interval, with_minus

NUMBER = re.compile(r"\s*[-+−]?(?:\d[\d ,.]*(?:e[-+]?\d+)?\s?%?|nan|inf)?\s*", re.I)
CARDS = re.compile(r'<table class="[^"]*\bcards\b.*?</table>', re.S)
_ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "th": "columnheader", "td": "cell"}
_ROW = re.compile(r"<tr.*?</tr>", re.S)
_CELL = re.compile(r"<(?P<tag>t[hd])\b[^>]*>(?P<text>.*?)</t[hd]>", re.S)


def align(html: str) -> str:
    """Give the cells of a table's columns of numbers, and their headings, the class `number`.

    `<tr><th>x</th></tr><tr><td>1.5</td></tr>` becomes
    `<tr><th class="number">x</th></tr><tr><td class="number">1.5</td></tr>`.
    """
    rows = [list(_CELL.finditer(row)) for row in _ROW.findall(html)]
    # columns are counted from the right: where an index has several levels, a row may lack the outer ones
    body = [row[::-1] for row in rows if any(cell["tag"] == "td" for cell in row)]
    numeric = {
        column
        for column in range(min(map(len, body), default=0))
        if all(row[column]["tag"] == "td" and NUMBER.fullmatch(row[column]["text"]) for row in body)
    }

    def mark(row: re.Match[str]) -> str:
        if "colspan" in row[0]:
            return row[0]
        columns = count(len(_CELL.findall(row[0])) - 1, -1)
        return _CELL.sub(
            lambda cell: _as_number(cell) if next(columns) in numeric else cell[0], with_interval(with_minus(row[0]))
        )

    return _ROW.sub(mark, html)


def _as_number(cell: re.Match[str]) -> str:
    return cell[0].replace(f"<{cell['tag']}", f'<{cell["tag"]} class="number"', 1)


def align_numbers(app: Sphinx, doctree: nodes.document) -> None:
    """Set the tables of a page; connect to `doctree-read`."""
    for output in doctree.findall(nodes.raw):
        if 'class="dataframe"' in output.astext():
            aligned = align(output.astext())
            output.clear()
            output.rawsource = aligned
            output += nodes.Text(aligned)


def cards(table: str) -> str:
    """Name each cell's column, and say all roles, which a table would lose where its rows are set as blocks.

    `<td><p>x</p></td>` in the column with the heading "gain" becomes `<td role="cell" data-label="gain"><p>x</p></td>`.
    """
    headings = [re.sub("<.*?>", "", cell["text"]).strip() for cell in _CELL.finditer(table) if cell["tag"] == "th"]

    def label(row: re.Match[str]) -> str:
        column = iter(headings)
        return re.sub("<td", lambda _: f'<td data-label="{next(column)}"', row[0])

    labelled = _ROW.sub(label, table)
    return re.sub(r"<(table|thead|tbody|tr|th|td)\b", lambda tag: f'{tag[0]} role="{_ROLES[tag[1]]}"', labelled)


def deal(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Prepare a page's tables for cards; connect to `html-page-context`."""
    if "cards" in context.get("body", ""):
        context["body"] = CARDS.sub(lambda table: cards(table[0]), context["body"])


def register(app: Sphinx) -> None:
    """Add what this module adds to the book."""
    app.connect("doctree-read", align_numbers)
    app.connect("html-page-context", deal)
