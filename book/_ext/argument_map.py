"""The map of the argument: `{argument-map}` draws the table `map` of `book/claims.toml`.

A place is a box that links to its page; one that is `ours`, and not a step of the paper, has round ends. An arrow is a
claim: it has the colour and the words of the claim's verdict, the arrow's own in place of a long condition, and links to
its card. One that is `against` what it points at ends in a bar. Places stand below each other; those that are `beside`
another stand at its right. On a narrow screen a list stands in for the drawing. What is not in the ledger or has no page
is a warning, and so fails the build.
"""

import tomllib
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from claims import LEDGER, VERDICTS, Claim, load, words_of
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

logger = getLogger(__name__)

WIDTH, BOX, SIDE, LEFT = 700, 220, 186, 160  # of the drawing, of a box, of one at the side, and left of the boxes
HEIGHT, GAP = 44, 38  # of a box, and between two
LINE = 30  # characters that fit into a line of a box; at the side fewer
LINE_SIDE = 27
LINE_WORDS = 20  # of an arrow from the side
EDGE = 2
CORNER, ROUND = 4, HEIGHT / 2  # radius of a box of the paper, and of one of ours
LEGEND = '<p class="legend"><span class="place">the paper’s</span> <span class="place ours">ours</span></p>'


@dataclass(frozen=True)
class Place:
    """A box."""

    id: str
    text: str
    page: str
    beside: str = ""
    ours: bool = False  # and not the paper's

    @property
    def style(self) -> str:
        """Its class."""
        return "place ours" if self.ours else "place"


@dataclass(frozen=True)
class Arrow:
    """A claim that leads from one place to another."""

    claim: str
    start: str
    end: str
    condition: str = ""  # in a few words, with "holds under" only
    effect: str = ""  # "against" where it makes less of its end, and does not lead to it

    def __post_init__(self) -> None:
        """Refuse an effect that is not known."""
        if self.effect not in {"", "against"}:
            raise ValueError(f"the effect of the map's arrow {self.claim!r} must be 'against', not {self.effect!r}")

    @property
    def end_of_line(self) -> str:
        """What its line ends in."""
        return "bar" if self.effect else "head"


@dataclass(frozen=True)
class Map:
    """What the ledger says of the argument."""

    places: tuple[Place, ...]
    arrows: tuple[Arrow, ...]

    def __post_init__(self) -> None:
        """Refuse an arrow that leads nowhere."""
        known = {place.id for place in self.places}
        used = {end for arrow in self.arrows for end in (arrow.start, arrow.end)}
        used |= {place.beside for place in self.places if place.beside}
        if unknown := sorted(used - known):
            raise ValueError(f"the map has no place {unknown[0]!r}: it must be one of {sorted(known)}")

    def place(self, name: str) -> Place:
        """The place of this id."""
        return next(place for place in self.places if place.id == name)


def read(path: Path = LEDGER) -> Map:
    """The map of a ledger. One that is not as it must be is a ValueError or a TypeError."""
    table = tomllib.loads(path.read_text("utf-8")).get("map", {})
    return Map(
        tuple(Place(**place) for place in table.get("places", ())),
        tuple(Arrow(*arrow) for arrow in table.get("arrows", ())),
    )


@dataclass(frozen=True)
class Rectangle:
    """Where a box lies."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        """Its centre."""
        return self.x + self.width / 2, self.y + self.height / 2


def layout(drawn: Map) -> dict[str, Rectangle]:
    """Where each box lies: one below the other, as tall as what stands beside it."""
    boxes: dict[str, Rectangle] = {}
    y: float = EDGE
    for place in drawn.places:
        if place.beside:
            continue
        beside = [other for other in drawn.places if other.beside == place.id]
        height = max(1, len(beside)) * (HEIGHT + 12) - 12
        boxes[place.id] = Rectangle(LEFT, y, BOX, height)
        for row, other in enumerate(beside):
            boxes[other.id] = Rectangle(WIDTH - SIDE - EDGE, y + row * (HEIGHT + 12), SIDE, HEIGHT)
        y += height + GAP
    return boxes


def path(start: Rectangle, end: Rectangle, neighbours: bool) -> tuple[str, float, float, str]:
    """The line of an arrow, and where its words (or the last line of them) stand: x, y and the anchor."""
    if start.x != end.x:  # from the side, leftwards
        x, y = end.x + end.width, start.middle[1]
        return f"M{start.x:g},{y:g} H{x + 2:g}", (start.x + x) / 2, y - 7, "middle"
    x = start.middle[0]
    if neighbours:
        down = start.y < end.y
        first, last = (start.y + start.height, end.y - 2) if down else (start.y, end.y + end.height + 2)
        return f"M{x:g},{first:g} V{last:g}", x + 12, (first + last) / 2 + 4, "start"
    # past others, along the left: it comes in above the middle from above, below it from below
    bend = start.x - 26
    y = end.middle[1] + (-9 if start.y < end.y else 9)
    words = (start.middle[1] + y) / 2 + 4
    return f"M{start.x:g},{start.middle[1]:g} H{bend:g} V{y:g} H{end.x - 2:g}", bend - 8, words, "end"


def wrapped(text: str, length: int) -> list[str]:
    """The lines of a text in a box, of about equal length."""
    if len(text) <= length:
        return [text]
    spaces = [at for at, letter in enumerate(text) if letter == " "]
    at = min(spaces, key=lambda at: abs(at - len(text) / 2))
    return [text[:at], text[at + 1 :]]


class ArgumentMap(nodes.General, nodes.Element):
    """The place of the map on its page."""


class ArgumentMapDirective(SphinxDirective):
    """```{argument-map}."""

    def run(self) -> list[nodes.Node]:
        """Leave the arrows whose claims and boxes whose pages exist; warn of others."""
        self.env.note_dependency(str(LEDGER))
        try:
            drawn, claims = read(), {claim.id: claim for claim in load()}
        except (TypeError, ValueError) as problem:
            raise self.error(str(problem)) from None
        for arrow in drawn.arrows:
            if arrow.claim not in claims:
                message = "the map's arrow %r is no claim: write it, or correct its id"
                logger.warning(message, arrow.claim, location=self.get_location())
            elif (claims[arrow.claim].verdict == "holds under") != bool(arrow.condition):
                message = "the map's arrow %r must have a few words for its condition, and only with 'holds under'"
                logger.warning(message, arrow.claim, location=self.get_location())
        folder = self.env.docname.rpartition("/")[0]
        for place in drawn.places:
            if f"{folder}/{place.page}".lstrip("/") not in self.env.found_docs:
                message = "the map's place %r has no page %r: correct it"
                logger.warning(message, place.id, place.page, location=self.get_location())
        known = Map(drawn.places, tuple(arrow for arrow in drawn.arrows if arrow.claim in claims))
        node = ArgumentMap(map=known, claims=claims, folder=folder)
        self.set_source_info(node)
        return [node]


class Writer:
    """Writes one map as HTML."""

    def __init__(self, translator: HTML5Translator, node: ArgumentMap) -> None:
        """Use the links of the page that is being written."""
        self.map: Map = node["map"]
        self.claims: dict[str, Claim] = node["claims"]
        self.folder = node["folder"]
        self.builder = translator.builder
        self.page = self.builder.current_docname
        self.labels = self.builder.env.get_domain("std").anonlabels

    def page_link(self, place: Place) -> str:
        """The link to a place's page."""
        return escape(self.builder.get_relative_uri(self.page, f"{self.folder}/{place.page}".lstrip("/")))

    def claim_link(self, arrow: Arrow) -> str:
        """The link to a claim's card."""
        page, anchor = self.labels.get(self.claims[arrow.claim].label, (self.page, ""))
        return escape(f"{self.builder.get_relative_uri(self.page, page)}#{anchor}")

    def meaning(self, arrow: Arrow) -> str:
        """What a screen reader says of an arrow."""
        claim = self.claims[arrow.claim]
        return f"{claim.title}: {self.words(arrow)}"

    def words(self, arrow: Arrow) -> str:
        """What stands at an arrow."""
        return words_of(self.claims[arrow.claim].verdict, arrow.condition)

    def kind(self, arrow: Arrow) -> str:
        """The class of an arrow's verdict, as that of its card."""
        return str(nodes.make_id(f"claim {self.claims[arrow.claim].verdict}"))

    def html(self) -> str:
        """The drawing, and the list that stands in for it."""
        return f'<div class="argument-map">\n{LEGEND}\n{self.drawing()}\n{self.steps()}\n</div>\n'

    def drawing(self) -> str:
        """The boxes and arrows as SVG."""
        boxes = layout(self.map)
        height = max(box.y + box.height for box in boxes.values()) + EDGE
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" role="group" '
            'aria-label="The map of the argument">',
            "<defs>",
        ]
        for verdict in VERDICTS:
            name = nodes.make_id(f"claim {verdict}")
            for end, size, shape in (("head", 8, "M0,0 L8,4 L0,8 z"), ("bar", 16, "M6,0 H8 V8 H6 z")):
                parts.append(
                    f'<marker id="{end}-{name}" class="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}" '
                    f'markerHeight="{size}" markerUnits="userSpaceOnUse" orient="auto"><path d="{shape}"/></marker>'
                )
        parts.append("</defs>")
        chain = [place.id for place in self.map.places if not place.beside]
        for place in self.map.places:
            parts.append(self.box(place, boxes[place.id]))
            parts += [self.arrow(arrow, boxes, chain) for arrow in self.map.arrows if arrow.start == place.id]
        return "\n".join([*parts, "</svg>"])

    def box(self, place: Place, box: Rectangle) -> str:
        """One box."""
        lines = wrapped(place.text, LINE_SIDE if place.beside else LINE)
        x, y = box.middle
        spans = "".join(
            f'<tspan x="{x:g}" y="{y + 5 + 16 * (row - (len(lines) - 1) / 2):g}">{escape(line)} </tspan>'
            for row, line in enumerate(lines)
        )
        return (
            f'<a class="{place.style}" href="{self.page_link(place)}"><rect x="{box.x:g}" y="{box.y:g}" '
            f'width="{box.width:g}" height="{box.height:g}" rx="{ROUND if place.ours else CORNER:g}"/>'
            f'<text text-anchor="middle">{spans}</text></a>'
        )

    def arrow(self, arrow: Arrow, boxes: dict[str, Rectangle], chain: list[str]) -> str:
        """One arrow."""
        neighbours = {arrow.start, arrow.end} <= set(chain) and abs(
            chain.index(arrow.start) - chain.index(arrow.end)
        ) == 1
        line, x, y, anchor = path(boxes[arrow.start], boxes[arrow.end], neighbours)
        kind = self.kind(arrow)
        lines = wrapped(self.words(arrow), LINE_WORDS) if anchor == "middle" else [self.words(arrow)]
        spans = "".join(
            f'<tspan x="{x:g}" y="{y - 14 * (len(lines) - 1 - row):g}">{escape(text)}</tspan>'
            for row, text in enumerate(lines)
        )
        return (
            f'<a class="arrow {kind}" href="{self.claim_link(arrow)}" aria-label="{escape(self.meaning(arrow))}">'
            f'<title>{escape(self.meaning(arrow))}</title><path d="{line}" marker-end="url(#{arrow.end_of_line}-{kind})"/>'
            f'<text text-anchor="{anchor}">{spans}</text></a>'
        )

    def steps(self) -> str:
        """The same as a list: each place, and below it the arrows that leave it, the one to the next place last.

        Places at the side come last.
        """
        chain = [place.id for place in self.map.places if not place.beside]
        parts = ["<ul>"]
        for place in sorted(self.map.places, key=lambda place: bool(place.beside)):
            link = f'<a class="{place.style}" href="{self.page_link(place)}">{escape(place.text)}</a>'
            parts.append(f"<li>{link}<ul>")
            following = dict(pairwise(chain)).get(place.id)
            leaving = [arrow for arrow in self.map.arrows if arrow.start == place.id]
            for arrow in sorted(leaving, key=lambda arrow: arrow.end == following):
                text = escape(self.map.place(arrow.end).text)
                beyond = f"works against “{text}”:" if arrow.effect else f"→ {text}:"
                end = "↓" if arrow.end == following else beyond
                parts.append(
                    f'<li class="{self.kind(arrow)}">{end} <a href="{self.claim_link(arrow)}" '
                    f'aria-label="{escape(self.meaning(arrow))}">{escape(self.words(arrow))}</a></li>'
                )
            parts.append("</ul></li>")
        return "\n".join([*parts, "</ul>"])


def visit(translator: HTML5Translator, node: ArgumentMap) -> None:
    """Write the map."""
    translator.body.append(Writer(translator, node).html())
    raise nodes.SkipNode


def register(app: Sphinx) -> None:
    """Add the directive."""
    app.add_node(ArgumentMap, html=(visit, None))
    app.add_directive("argument-map", ArgumentMapDirective)
