"""Small type: minus signs, spaces in numbers and before %, and no line that begins with the comma after a formula.

Numbers come from Python with a hyphen, which is shorter than a minus and where a line may break, and with commas
between thousands, which become thin spaces. Code keeps its own.
"""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"
CODE = (nodes.literal, nodes.FixedTextElement, nodes.raw, nodes.math, nodes.math_block, addnodes.desc_signature)


def with_minus(text: str) -> str:
    """Write the sign of a number as a minus: of "-0.4 to 1-2", only the first."""
    return re.sub(r"(?<![\w.)\]-])-(?=\.?\d)", MINUS, text)


def with_space(text: str) -> str:
    """Set the sign of a percentage off, as "42 %", and on its line."""
    return re.sub(r"(?<=\d) ?%", "\N{NO-BREAK SPACE}%", text)


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
            if text != (signed := with_space(with_minus(with_thousands(text)))) and not _is_code(text):
                text.parent.replace(text, nodes.Text(signed))
        for formula in list(self.document.findall(nodes.math)):
            _keep_together(formula)


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
