"""Tables that pandas wrote: columns of numbers are set to the right, with their headings, and text to the left."""

import re

from docutils import nodes
from sphinx.application import Sphinx

NUMBER = re.compile(r"\s*[-+−]?(?:\d[\d ,.]*(?:e[-+]?\d+)?\s?%?|nan|inf)?\s*", re.I)
_ROW = re.compile(r"<tr.*?</tr>", re.S)
_CELL = re.compile(r"<(?P<tag>t[hd])(?P<attributes>[^>]*)>(?P<text>.*?)</t[hd]>", re.S)


def align(html: str) -> str:
    """Give the cells of a table's columns of numbers the class `number`.

    >>> align("<tr><th>x</th><th>name</th></tr><tr><td>-1.5</td><td>a</td></tr>")
    '<tr><th class="number">x</th><th>name</th></tr><tr><td class="number">-1.5</td><td>a</td></tr>'
    """
    rows = [_CELL.findall(row) for row in _ROW.findall(html)]
    body = [row for row in rows if any(tag == "td" for tag, _, _ in row)]
    width = max(map(len, body), default=0)
    numeric = {
        column
        for column in range(width)
        # from the right: a row of a table with an index of several levels may lack the outer one
        if all(row[-1 - column][0] == "td" and NUMBER.fullmatch(row[-1 - column][2]) for row in body if column < len(row))
    }

    def align_row(match: re.Match[str]) -> str:
        cells = list(_CELL.finditer(match[0]))
        places = iter(range(len(cells) - 1, -1, -1))
        spanned = len(cells) < width and any("colspan" in cell["attributes"] for cell in cells)
        return _CELL.sub(
            lambda cell: f'<{cell["tag"]}{cell["attributes"]} class="number">{cell["text"]}</{cell["tag"]}>'
            if next(places) in numeric and not spanned and "class=" not in cell["attributes"]
            else cell[0],
            match[0],
        )

    return _ROW.sub(align_row, html)


def align_numbers(app: Sphinx, doctree: nodes.document) -> None:
    """Set the tables of a page; connect to `doctree-read`."""
    for output in doctree.findall(nodes.raw):
        if 'class="dataframe"' in output.astext():
            aligned = align(output.astext())
            output.rawsource, output.children = aligned, []
            output += nodes.Text(aligned)


def register(app: Sphinx) -> None:
    """Add what this module adds to the book."""
    app.connect("doctree-read", align_numbers)
