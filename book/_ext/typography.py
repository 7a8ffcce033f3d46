"""Small type: minus signs, spaces in numbers, and no break within "42 %", "[0.1, 0.3]", "Fig. 3.1" or after a formula.

Numbers come from Python with a hyphen, which is shorter than a minus and where a line may break, and with commas
between thousands, which become thin spaces. Code keeps its own.
"""

import re
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"
FIXED = "\N{NO-BREAK SPACE}"
NUMBER = r"[-+\N{MINUS SIGN}]?\d[\d.\N{NARROW NO-BREAK SPACE}]*"
CODE = (nodes.literal, nodes.FixedTextElement, nodes.raw, nodes.math, nodes.math_block, addnodes.desc_signature)


def with_minus(text: str) -> str:
    """Write the sign of a number as a minus: of "-0.4 to 1-2", only the first."""
    return re.sub(r"(?<![\w.)\]-])-(?=\.?\d)", MINUS, text)


def with_space(text: str) -> str:
    """Set the sign of a percentage off, as "42 %", and on its line; and a power of ten on that of its factor."""
    return re.sub(r"(?<=\d) · (?=10)", f"{FIXED}·{FIXED}", re.sub(r"(?<=\d) ?%", f"{FIXED}%", text))


def with_interval(text: str) -> str:
    """Keep an interval on one line: "[0.1, 0.3]"."""
    return re.sub(rf"(\[{NUMBER}), (?={NUMBER}\])", rf"\1,{FIXED}", text)


def with_thousands(text: str) -> str:
    """Set the thousands of a number off, as "65 536", on one line: groups of three digits after at most three."""
    number = r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\d,]*\d)"
    return re.sub(number, lambda found: found[0].replace(",", THIN), text)


class SmallType(SphinxPostTransform):
    """Set the prose of a page."""

    default_priority = 900  # what other chapters hand over is in place

    def run(self, **_: Any) -> None:
        """Replace hyphens, and keep formulas and the punctuation around them on one line."""
        for text in list(self.document.findall(nodes.Text)):
            siblings = text.parent.children
            # not `index`, which finds the first of equal texts, with other neighbours
            place = next(place for place, node in enumerate(siblings) if node is text)
            small = with_interval(with_space(with_minus(with_thousands(text))))
            if text != (small := _between_numbers(siblings, place, small)) and not _is_code(text):
                text.parent[place] = nodes.Text(small)
        for link in self.document.findall(nodes.reference):
            _keep_number(link)
        for formula in list(self.document.findall(nodes.math)):
            _keep_together(formula)


def _between_numbers(siblings: Sequence[nodes.Node], place: int, small: str) -> str:
    """Hold what stands between two numbers of an interval, or behind one, where they are nodes of their own."""
    before = siblings[place - 1].astext() if place else ""
    if small.startswith(" %") and before[-1:].isdigit():
        return FIXED + small[1:]
    around = [node.astext() for node in siblings[max(place - 2, 0) : place + 3]]
    within = len(around) == 5 and around[0].endswith("[") and around[4].startswith("]")
    return f",{FIXED}" if small == ", " and within else small


def _keep_number(link: nodes.reference) -> None:
    """Keep the name of a kind and its number together, as in "Fig. 3.1"; and a space before a link outside of it."""
    text = next(link.findall(nodes.Text), None)
    if text is None or _is_code(text):
        return
    if text.startswith(" "):  # sphinx-exercise's
        link.parent.insert(link.parent.index(link), nodes.Text(" "))
    text.parent.replace(text, nodes.Text(re.sub(r"^(\w+\.?) (?=(?:[A-Z]\.)?\d)", rf"\1{FIXED}", text.lstrip(" "))))


def keep_stars(app: Sphinx, doctree: nodes.document) -> None:
    """Keep the star of a heading on the line of its last word; connect to `doctree-read` before Sphinx collects titles."""
    for title in doctree.findall(nodes.title):
        last = title.children[-1] if title.children else None
        if isinstance(last, nodes.Text) and last.endswith(" ★"):
            title.replace(last, nodes.Text(f"{last[:-2]}{FIXED}★"))


def _is_code(text: nodes.Text) -> bool:
    node = text.parent
    while node is not None and not isinstance(node, CODE):
        node = node.parent
    return node is not None


def _keep_together(formula: nodes.math) -> None:
    """Put an opening bracket before a formula and punctuation behind it into one box with it."""
    parent = formula.parent
    place = parent.index(formula)
    before = parent[place - 1] if place else ""
    behind = parent[place + 1] if place + 1 < len(parent) else ""
    opening = re.search(r"[(\[]+$", before) if isinstance(before, nodes.Text) else None
    closing = re.match(r"[.,;:?!)\]]+", behind) if isinstance(behind, nodes.Text) else None
    if not (opening or closing):
        return
    box = nodes.inline(classes=["together"])
    parent.replace(formula, box)
    if opening:
        parent.replace(before, nodes.Text(before[: opening.start()]))
        box += nodes.Text(opening[0])
    box += formula
    if closing:
        parent.replace(behind, nodes.Text(behind[closing.end() :]))
        box += nodes.Text(closing[0])


def register(app: Sphinx) -> None:
    """Add what this module adds to the book."""
    app.add_post_transform(SmallType)
    app.connect("doctree-read", keep_stars, priority=400)
