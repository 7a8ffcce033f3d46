"""The map of the argument: it says what the ledger says, leads where it says, and can be read."""

from itertools import pairwise

import argument_map
import claims
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser
from support.tiny_book import TinyBook

LEDGER = {claim.id: claim for claim in claims.load()}
MAP = argument_map.read()
CHAIN = [place for place in MAP.places if not place.beside]


@pytest.fixture
def drawn(site):
    soup = BeautifulSoup((site / "book" / "index.html").read_text("utf-8"), "html.parser")
    return soup.select_one(".argument-map")


def said(link):
    """The verdict's class, the words, the card, and what a screen reader says."""
    kind = link.get("class") or link.parent["class"]
    (verdict,) = [name for name in kind if name.startswith("claim-")]
    words = " ".join(line.get_text() for line in link.select("tspan") or [link])
    return verdict, words, link["href"], link["aria-label"]


def test_every_arrow_is_a_claim_of_the_ledger():
    assert {arrow.claim for arrow in MAP.arrows} <= set(LEDGER)
    assert len({arrow.claim for arrow in MAP.arrows}) == len(MAP.arrows)


def test_the_chain_leads_from_the_phenomenon_to_what_should_mend_it():
    """Each box but the remedy leads to the next; the remedy, and all that stands at the side, leads back into the chain."""
    pairs = {(arrow.start, arrow.end) for arrow in MAP.arrows}
    *argument, remedy = [place.id for place in CHAIN]
    assert set(pairwise(argument)) <= pairs
    leaving = {arrow.start: arrow.end for arrow in MAP.arrows}
    assert all(leaving[place.id] in argument for place in MAP.places if place.beside)
    assert leaving[remedy] in argument


def test_the_page_says_what_the_ledger_says(drawn):
    expected = set()
    for arrow in MAP.arrows:
        claim = LEDGER[arrow.claim]
        words = {"holds under": f"holds {arrow.condition}", "verified numerically": "measured"}.get(
            claim.verdict, claim.verdict
        )
        kind = "claim-" + claim.verdict.replace(" ", "-")
        expected.add((kind, words, f"claims.html#claim-{claim.id}", f"{claim.title}: {words}"))
    assert {said(link) for link in drawn.select("svg a.arrow")} == expected
    assert {said(link) for link in drawn.select("li li a")} == expected
    places = [(place.text, f"{place.page}.html") for place in MAP.places]
    boxes = [(" ".join(a.get_text().split()), a["href"]) for a in drawn.select("svg a.place")]
    assert boxes == places
    assert sorted((a.get_text(), a["href"]) for a in drawn.select("ul a.place")) == sorted(places)


def test_a_card_and_its_arrow_have_one_colour(browser: Browser, address: str):
    colour = "(node) => getComputedStyle(node).getPropertyValue('--verdict')"
    for scheme in ("light", "dark"):
        with browser.new_context(color_scheme=scheme) as context:
            page, cards = context.new_page(), context.new_page()
            page.goto(f"{address}/book/index.html")
            cards.goto(f"{address}/book/claims.html")
            for arrow in MAP.arrows:
                link = page.locator(f"svg a[href$='#claim-{arrow.claim}']")
                assert link.evaluate(colour) == cards.locator(f"#claim-{arrow.claim}").evaluate(colour) != ""


OVERLAPS = """() => {
    const boxes = [...document.querySelectorAll(".argument-map rect")].map((node) => node.getBoundingClientRect());
    const frame = document.querySelector(".argument-map svg").getBoundingClientRect();
    const within = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
    const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
    const texts = [...document.querySelectorAll(".argument-map .place text")];
    const words = [...document.querySelectorAll(".argument-map .arrow text")];
    const rectangles = words.map((node) => node.getBoundingClientRect());
    return [
        ...texts.filter((node, row) => !within(node.getBoundingClientRect(), boxes[row])),
        ...boxes.filter((box) => !within(box, frame)),
        ...words.filter((_, row) => !within(rectangles[row], frame) || !boxes.every((box) => apart(rectangles[row], box))),
        ...words.filter((_, row) => !rectangles.every((other, k) => k === row || apart(rectangles[row], other))),
    ].map((node) => node.textContent ?? "a box");
}"""


def test_the_drawing_can_be_read_and_a_list_stands_in_for_it(browser: Browser, address: str):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(f"{address}/book/index.html")
        assert page.evaluate(OVERLAPS) == []
        assert not page.locator(".argument-map > ul").is_visible()
        page.set_viewport_size({"width": 390, "height": 900})
        assert page.locator(".argument-map > ul").is_visible()
        assert not page.locator(".argument-map svg").is_visible()
        tops = page.eval_on_selector_all(".argument-map li > .place", "nodes => nodes.map((n) => n.offsetTop)")
        assert tops == sorted(set(tops))


LEDGER_FILE = """
[map]
places = [
    {{ id = "one", text = "One", page = "index" }},
    {{ id = "two", text = "Two", page = "{page}" }},
]
arrows = [["{claim}", "one", "{end}", "{words}"]]

[[claim]]
id = "toy"
topic = "one"
title = "A toy"
brief = "it is"
statement = "One is one."
tag = "M"
reading = "As it stands."
verdict = "verified numerically"
finding = "It is."
chapters = ["index"]
"""


def build(folder, page="index", claim="toy", end="two", words=""):
    book = TinyBook(folder)
    book.write("book/index.md", "# A page\n\n```{argument-map}\n```\n\n## Claims\n\n```{claims} one\n```\n")
    book.write("book/claims.toml", LEDGER_FILE.format(page=page, claim=claim, end=end, words=words))
    return book.build()


def test_an_arrow_that_is_no_claim_and_a_place_without_a_page_fail_the_build(tmp_path):
    result = build(tmp_path, page="no", claim="nobody")
    assert result.returncode != 0
    assert "the map's arrow 'nobody' is no claim: write it, or correct its id" in result.stderr
    assert "the map's place 'two' has no page 'no': correct it" in result.stderr


def test_a_condition_without_its_verdict_fails_the_build(tmp_path):
    result = build(tmp_path, words="on Mondays")
    assert result.returncode != 0
    assert "the map's arrow 'toy' must have a few words for its condition, and only with 'holds under'" in result.stderr


def test_the_list_ends_with_the_arrow_to_the_next_place(drawn):
    for steps in drawn.select("ul ul"):
        assert [item.get_text().startswith("↓") for item in steps.select("li")][:-1].count(True) == 0


def test_a_whole_map_builds(tmp_path):
    result = build(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    html = (tmp_path / "_build" / "html" / "book" / "index.html").read_text("utf-8")
    drawn = BeautifulSoup(html, "html.parser").select_one(".argument-map")
    assert [link["href"] for link in drawn.select("a:not(.place)")] == ["#claim-toy", "#claim-toy"]


def test_an_arrow_that_leads_nowhere_is_refused():
    places = (argument_map.Place("one", "One", "index"),)
    with pytest.raises(ValueError, match=r"the map has no place 'two': it must be one of \['one'\]"):
        argument_map.Map(places, (argument_map.Arrow("toy", "one", "two"),))


@pytest.mark.parametrize(
    ("text", "lines"),
    [("One", ["One"]), ("Embeddings of different texts grow", ["Embeddings of", "different texts grow"])],
)
def test_a_long_text_has_two_lines_of_about_equal_length(text, lines):
    assert argument_map.wrapped(text, 20) == lines
