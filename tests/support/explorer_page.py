"""A page with one explorer and nothing else, opened from a folder: what an explorer needs, with no book built."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from support.pages import WCAG

FOLDER = Path(__file__).resolve().parents[2] / "book" / "_static" / "explorers"
SHARED = FOLDER.parent / "explorer.js"
# The theme's colours, which the explorers use.
COLOURS = {
    "light": {
        "text-base": "#222832",
        "text-muted": "#48566b",
        "background": "#ffffff",
        "surface": "#f3f4f5",
        "border": "#d1d5da",
        "link": "#0b4f8f",
    },
    "dark": {
        "text-base": "#ced6dd",
        "text-muted": "#9ca4af",
        "background": "#14181e",
        "surface": "#29313d",
        "border": "#48566b",
        "link": "#3fb1c5",
    },
}
PAGE = """<!doctype html>
<html lang="en" data-theme="{scheme}">
<meta charset="utf-8">
<title>An explorer</title>
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{folder}/explorers.css">
<style>
  :root {{ color-scheme: {scheme}; {variables} }}
  * {{ box-sizing: border-box; }}
  body {{ background: var(--pst-color-background); color: var(--pst-color-text-base); font-family: sans-serif; }}
  main {{ margin: auto; max-width: 45rem; }}
</style>
<script defer src="{shared}"></script>
<script defer src="{folder}/{name}.js"></script>
<main>
  <h1>An explorer</h1>
  <figure class="explorer" id="fig-{name}" data-explorer="{name}" data-preset="{preset}">
    <div class="explorer-root"></div>{data}
    <figcaption>A caption.</figcaption>
  </figure>
</main>
</html>
"""


@contextmanager
def explorer_page(
    browser: Browser,
    name: str,
    folder: Path,
    *,
    width: int = 1280,
    scheme: str = "light",
    preset: str = "",
    **context: str | bool,
) -> Iterator[tuple[Page, list[str]]]:
    """The page, written to a folder, and a list of what the browser complained about or asked for besides its files."""
    variables = " ".join(f"--pst-color-{key}: {value};" for key, value in COLOURS[scheme].items())
    own = FOLDER / f"{name}.json"
    data = (
        f'<script type="application/json">{json.dumps(json.loads(own.read_text()))}</script>' if own.is_file() else ""
    )
    file = folder / "page.html"
    names = {"folder": FOLDER.as_uri(), "shared": SHARED.as_uri(), "name": name}
    page = PAGE.format(scheme=scheme, variables=variables, data=data, preset=preset, **names)
    file.write_text(page, "utf-8")
    expected = {
        file.as_uri(),
        SHARED.as_uri(),
        *(f"{FOLDER.as_uri()}/{part}" for part in (f"{name}.js", "explorers.css")),
    }
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **context) as opened:
        tab, complaints = opened.new_page(), []
        tab.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        tab.on("request", lambda request: complaints.append(request.url) if request.url not in expected else None)
        tab.goto(file.as_uri())
        yield tab, complaints


def move(tab: Page, name: str, value: float | str) -> None:
    """Give a slider or a list of choices a value, as a reader does."""
    tab.locator(f"[data-input={name}]").evaluate(
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('input', { bubbles: true })); }",
        str(value),
    )


def violations(tab: Page) -> dict[str, list[str]]:
    """What axe finds: rule -> the elements that break it."""
    found = Axe().run(tab, options=WCAG).response["violations"]
    return {rule["id"]: [node["html"][:120] for node in rule["nodes"]] for rule in found}
