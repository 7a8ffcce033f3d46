"""Every built page, read with a browser and as HTML.

Opening a page and setting its formulas takes longer than most tests, so those of one page share it, as `wide`: first
those that leave it alone, last those that open its folds and turn it dark.
"""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser, Page
from support.pages import dressed, opened, violations
from support.touch import PHONE, drag


@cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def article(site: Path, page: str) -> Tag:
    return parsed(site / "book" / f"{page}.html").select_one("article.bd-article")


def test_page_is_quiet_local_and_set(wide: tuple[Page, list[str]]) -> None:
    tab, complaints = wide
    assert complaints == []
    formulas = tab.locator("article .math").count()
    assert tab.locator("article .math > mjx-container").count() == formulas
    # MathJax sets what it cannot read as an error, and an unknown command in red
    assert tab.locator("mjx-merror, [data-mjx-error], mjx-container [style*='color: red']").count() == 0
    prose = tab.evaluate(
        """() => {
            const article = document.querySelector("article.bd-article").cloneNode(true);
            article.querySelectorAll("pre, code, script, style, mjx-container").forEach((node) => node.remove());
            return article.textContent;
        }"""
    )
    assert re.findall(r".{0,30}(?:\$|\\[(\[]|\{[a-z:]+\}`).{0,30}", prose) == []


def test_page_is_light(wide: tuple[Page, list[str]], site: Path) -> None:
    tab, _ = wide
    # the files themselves: of what a browser has kept from another page, it may not know the size
    loaded = tab.evaluate(
        """() => performance.getEntries().filter((entry) => ["navigation", "resource"].includes(entry.entryType))
            .map((entry) => new URL(entry.name)).filter((url) => url.origin === location.origin)
            .map((url) => url.pathname)"""
    )
    weights = {
        path: (site / path.removeprefix("/")).stat().st_size for path in loaded if not path.endswith((".png", ".svg"))
    }
    assert {Path(path).suffix for path in weights} >= {".html", ".css", ".js"}
    assert sum(weights.values()) < 2_000_000, weights
    # what is taken out of the theme's icons is none that a page draws
    icons = tab.locator("[class*=fa-solid], [class*=fa-brands], .svg-inline--fa")
    assert icons.count() == tab.locator("svg.svg-inline--fa:has(> path[d])").count() > 0


def test_open_code_is_not_cut_off(wide: tuple[Page, list[str]]) -> None:
    tab, _ = wide
    cut = """(blocks) => blocks
        .filter((block) => !block.closest("details:not([open])") && block.scrollWidth > block.clientWidth + 1)
        .map((block) => block.textContent.split("\\n").sort((a, b) => b.length - a.length)[0])"""
    assert tab.locator("article .cell_input pre").evaluate_all(cut) == []


def test_page_fits_a_narrow_screen(browser: Browser, address: str, page: str) -> None:
    with opened(browser, f"{address}/book/{page}.html", width=390) as (tab, _):
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        # figures stand on a phone as they are, or panel by panel
        scroll = "(boxes) => boxes.filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.outerHTML)"
        assert tab.locator(".figure-box").evaluate_all(scroll) == []
        # a box that hides what sticks out of it would pass the line above
        clipped = """() => [...document.querySelectorAll("article.bd-article *")]
            .filter((node) => !node.closest("mjx-container"))
            .filter((node) => node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 1)
            .filter((node) => ["hidden", "clip"].includes(getComputedStyle(node).overflowX))
            .map((node) => node.outerHTML.slice(0, 80))"""
        assert tab.evaluate(clipped) == []
        # the width changes nothing else that axe looks at
        assert violations(tab, ["scrollable-region-focusable", "target-size"]) == {}


def test_images_are_described(site: Path, page: str) -> None:
    # without `image: alt` in the cell, docutils puts the file's path there
    undescribed = [
        image["src"]
        for image in article(site, page).select("img")
        if not image.get("alt", "").strip() or re.search(r"\.(png|svg|jpe?g)$", image["alt"])
    ]
    assert undescribed == []


def test_what_glue_prints_never_shows(site: Path, page: str) -> None:
    notebook = site / "_sources" / "book" / f"{page}.ipynb"
    if not notebook.is_file():
        return
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    names = [o.metadata.scrapbook.name for o in outputs if "scrapbook" in o.get("metadata", {})]
    # the notebook to download keeps what the page leaves out
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert all(f"{name} = " in printed for name in names)
    shown = "\n".join(node.get_text() for node in article(site, page).select(".cell_output .stream"))
    assert [name for name in names if re.search(rf"^{re.escape(name)} = ", shown, re.M)] == []
    assert [
        node for node in article(site, page).select(".cell_output") if not node.get_text().strip() and not node.img
    ] == []


def test_open_code_is_short(site: Path, page: str) -> None:
    lengths = {}
    for cell in article(site, page).select("div.cell:not(.tag_show-input)"):
        if cell.find_parent(class_="solution"):
            continue
        blocks = [pre for pre in cell.select(".cell_input pre") if not pre.find_parent("details")]
        lines = [line for pre in blocks for line in pre.get_text().splitlines() if line.strip()]
        lengths["\n".join(lines)[:80]] = len(lines)
    assert {start: length for start, length in lengths.items() if length > 16} == {}


def test_folds_say_what_they_hold(site: Path, page: str) -> None:
    labels = [node.get_text(" ", strip=True) for node in article(site, page).select("details > summary")]
    assert [label for label in labels if not label or label.startswith("The cell's")] == []


def test_figures_have_captions(site: Path, page: str) -> None:
    content = article(site, page)
    bare = [str(f)[:120] for f in content.select("figure") if not f.select_one("figcaption .caption-text")]
    loose = [str(image)[:120] for image in content.select(".cell_output img") if not image.find_parent("figure")]
    assert bare + loose == []


def test_headings_are_in_order(site: Path, page: str) -> None:
    levels = [int(heading.name[1]) for heading in article(site, page).find_all(re.compile("^h[1-6]$"))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels


def test_links_inside_the_book_resolve(site: Path, page: str) -> None:
    source = site / "book" / f"{page}.html"
    soup = parsed(source)
    broken = []
    for node, attribute in ((n, a) for a in ("href", "src") for n in soup.select(f"[{a}]")):
        link = urlsplit(node[attribute])
        if link.scheme or link.netloc:
            continue
        target = (source.parent / unquote(link.path)).resolve() if link.path else source
        anchored = not link.fragment or (target.suffix == ".html" and unquote(link.fragment) in anchors(target))
        if not target.is_file() or not anchored:
            broken.append(node[attribute])
    assert broken == []


@cache
def anchors(page: Path) -> set[str]:
    return {node["id"] for node in parsed(page).select("[id]")} if page.is_file() else set()


def test_slider_works_offline(browser: Browser, site: Path, address: str) -> None:
    if not (site / "book" / "softmax_temperature.html").is_file():
        pytest.skip("book/softmax_temperature is not in this book")
    with opened(browser, f"{address}/book/softmax_temperature.html") as (tab, complaints):
        tab.context.set_offline(True)
        slider = tab.locator(".tempscale-slider").first
        drawing = "(node) => [...node.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL()).join() "
        before = (slider.locator("output").all_text_contents(), slider.evaluate(drawing))
        handle = slider.locator("input[type=range]")
        handle.press("ArrowLeft" if handle.evaluate("(node) => node.value > node.min") else "ArrowRight")
        after = (slider.locator("output").all_text_contents(), slider.evaluate(drawing))
        assert before[1]
        assert all(old != new for old, new in zip(before, after, strict=True))
        assert complaints == []


def test_slider_works_by_touch(browser: Browser, site: Path, address: str) -> None:
    if not (site / "book" / "softmax_temperature.html").is_file():
        pytest.skip("book/softmax_temperature is not in this book")
    with browser.new_context(viewport={"width": 390, "height": 844}, **PHONE) as context:
        tab = context.new_page()
        tab.goto(f"{address}/book/softmax_temperature.html")
        explorer = tab.locator(".explorer-root:has(.tempscale-slider)")
        at = explorer.locator("output").first
        for share, value in ((0, "0.10"), (1, "10.00")):
            drag(explorer.locator("input[type=range]"), share)
            assert at.inner_text() == value
        for name, value in (("0.5", "0.50"), ("1, as trained", "1.00")):
            explorer.get_by_role("button", name=name, exact=True).tap()
            assert at.inner_text() == value
            assert explorer.locator("[aria-pressed=true]").inner_text() == name
        # it looks like the other explorers
        assert explorer.evaluate("(node) => getComputedStyle(node).borderTopStyle") == "solid"


def test_the_copy_button_copies_all_parts_of_a_cell(wide: tuple[Page, list[str]], site: Path, page: str) -> None:
    cell = article(site, page).select_one(".cell_input.parts:has(> details):has(> div)")
    if cell is None:
        return
    code = "".join(pre.get_text() for pre in cell.select("pre"))
    tab, _ = wide
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = tab.locator(".cell_input.parts:has(> details):has(> div) + button.copybtn").first
    button.dispatch_event("click")
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.split() == code.split()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible_and_figures_have_a_twin(
    wide: tuple[Page, list[str]], site: Path, page: str, scheme: str
) -> None:
    tab, complaints = wide
    dressed(tab, scheme)
    figures = ".cell_output figure:not(:has(.tempscale-slider))"  # which draws on canvases
    if article(site, page).select(figures):
        drawn = tab.locator(figures).evaluate_all(
            """(figures) => figures.map((figure) => [
                [...figure.querySelectorAll("img")]
                    .filter((img) => img.offsetParent).map((img) => img.className.match(/only-[a-z]+/)?.[0]),
                getComputedStyle(figure.querySelector("figcaption")).display,
                [...figure.querySelectorAll("img")].every((img) => img.naturalWidth > 0),
            ])"""
        )
        assert drawn == [[[f"only-{scheme}"], drawn[0][1], True]] * len(drawn)
        assert drawn[0][1] != "none"
    tab.evaluate("document.querySelectorAll('details').forEach((node) => (node.open = true))")
    # the scheme changes colours, and nothing else
    rules = ["color-contrast", "link-in-text-block"] if scheme == "dark" else None
    assert violations(tab, rules) == {}
    assert complaints == []
