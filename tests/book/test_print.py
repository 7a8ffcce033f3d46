"""Pages on paper: nothing is clipped, nothing stays folded, and no bar of the screen is in the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

A4 = 718  # the width in pixels of a page within a browser's margins
PRINTED = ["decision", "frequency", "random_attention", "results", "architectures"]
CLIPPED = """() => [...document.querySelectorAll("article.bd-article, article.bd-article *")]
    .filter((node) => !node.closest("mjx-container > *, style, script"))
    .filter((node) => node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 1)
    .map((node) => node.outerHTML.slice(0, 80))"""


@pytest.fixture(params=PRINTED, scope="module")
def paper(browser: Browser, site: Path, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page as it is printed from a dark screen, for all tests below: the last of them leaves the paper."""
    if not (site / "book" / f"{request.param}.html").is_file():
        pytest.skip(f"book/{request.param} is not in this book")
    with browser.new_context(viewport={"width": A4, "height": 1000}, color_scheme="dark") as context:
        page = context.new_page()
        page.goto(f"{address}/book/{request.param}.html", wait_until="networkidle")
        page.evaluate("() => window.MathJax?.startup?.promise")
        # MathJax's words for screen readers are laid out, and never seen
        page.add_style_tag(content="mjx-assistive-mml { display: none !important }")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        yield page


def test_no_line_is_clipped_on_paper(paper: Page) -> None:
    assert paper.evaluate("document.documentElement.scrollWidth") <= A4
    assert paper.evaluate(CLIPPED) == []
    # a box that is a page wide and a line too long: what the test above looks for
    paper.evaluate(
        """() => document.querySelector("article.bd-article").insertAdjacentHTML(
            "beforeend", '<p id="long" style="white-space: nowrap">' + "long ".repeat(99) + "</p>")"""
    )
    assert len(paper.evaluate(CLIPPED)) > 0
    paper.evaluate("document.getElementById('long').remove()")


def test_folds_are_open_and_bars_are_gone_on_paper(paper: Page) -> None:
    folded = paper.locator("article details:not([open]) > :not(summary)")
    assert folded.filter(visible=False).count() == 0
    assert (
        not paper.locator(".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .copybtn")
        .filter(visible=True)
        .all()
    )


def test_paper_is_light_and_the_screen_stays_as_it_was(paper: Page) -> None:
    theme = "document.documentElement.dataset.theme"
    assert paper.evaluate(theme) == "light"
    paper.evaluate("dispatchEvent(new Event('afterprint'))")
    assert paper.evaluate(theme) == "dark"


def test_a_page_becomes_a_pdf(browser: Browser, site: Path, address: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/book/index.html", wait_until="networkidle")
        assert page.pdf(format="A4").startswith(b"%PDF")
