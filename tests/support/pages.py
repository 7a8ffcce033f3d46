"""Pages of the book in a browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

# of what passes, axe would describe every element
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "preload": False, "resultTypes": ["violations"]}


class _Tab:
    """A tab with its own storage, permissions and cache, and what was complained of and asked for in it."""

    def __init__(self, browser: Browser) -> None:
        context = browser.new_context()
        # each page finds what a first visitor's does
        context.add_init_script("if (location.origin !== 'null') { localStorage.clear(); sessionStorage.clear(); }")
        self.page = context.new_page()
        self.host = ""
        self.complaints: list[str] = []
        self.pending: set[Request] = set()
        complain, done = self.complaints.append, self.pending.discard
        self.page.on("console", lambda m: complain(m.text) if m.type in {"error", "warning"} else None)
        self.page.on("pageerror", lambda error: complain(str(error)))
        self.page.on("requestfailed", lambda request: complain(f"failed: {request.url}"))
        self.page.on("requestfailed", lambda request: done(request))
        self.page.on("requestfinished", lambda request: done(request))
        self.page.on("response", lambda r: complain(f"{r.status}: {r.url}") if r.status >= 400 else None)
        self.page.on("request", self._ask)

    def _ask(self, request: Request) -> None:
        self.pending.add(request)
        asked = urlsplit(request.url)
        if asked.scheme in {"http", "https"} and asked.netloc != self.host:
            self.complaints.append(f"another host: {request.url}")

    def open(self, url: str, width: int, scheme: str) -> None:
        """Open an address, and wait for its formulas, its fonts and all that it asks for."""
        self.host = urlsplit(url).netloc
        self.complaints.clear()
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)
        self.page.goto(url)
        self.page.evaluate("async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; }")
        while self.pending:
            self.page.wait_for_timeout(10)

    def leave(self) -> None:
        """Be ready for another page."""
        self.page.context.set_offline(False)
        self.page.context.clear_permissions()
        self.page.mouse.move(0, 0)


# A new tab takes more than opening most pages does.
_IDLE: dict[Browser, list[_Tab]] = {}


@contextmanager
def opened(browser: Browser, url: str, width: int = 1280, scheme: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """A page with its maths set, and a list that collects every complaint of the browser."""
    idle = _IDLE.setdefault(browser, [])
    tab = idle.pop() if idle else _Tab(browser)
    tab.open(url, width, scheme)
    # colours are judged as they end up, not in the middle of fading in
    tab.page.add_style_tag(content="* { animation: none !important; transition: none !important; }")
    # axe does not judge colours on a gradient, and the shadow beside what scrolls is one
    tab.page.add_style_tag(content="article div { background-image: none !important }")
    yield tab.page, tab.complaints
    tab.leave()
    idle.append(tab)  # not after an exception: a tab in which a test failed is not used again


def dressed(tab: Page, scheme: str) -> None:
    """Turn a page light or dark, as the reader's system does it."""
    tab.emulate_media(color_scheme=scheme)
    tab.wait_for_function("(scheme) => document.documentElement.dataset.theme === scheme", arg=scheme)


def alike_once(tab: Page) -> None:
    """Leave of the tokens of code one of each look: thousands are coloured by a few rules, and axe judges each."""
    tab.evaluate(
        """() => {
            const looks = new Set();
            const again = [...document.querySelectorAll("pre span[class]")].filter((token) => {
                const style = getComputedStyle(token), block = token.closest(".highlight, .output, pre");
                const around = block.closest(".admonition, .solution, .proof, .exercise, details");
                const look = [token.className, style.color, style.backgroundColor, style.fontWeight, style.fontSize,
                    style.opacity, getComputedStyle(block).backgroundColor, around?.className].join();
                return looks.size === looks.add(look).size;
            });
            again.forEach((token) => token.replaceWith(...token.childNodes));
            document.querySelectorAll("pre").forEach((block) => block.normalize());
        }"""
    )


def formulas_boxed(tab: Page) -> None:
    """Leave of each formula its box, empty and as large as it was.

    MathJax draws them by its style sheet, in the colour of the text around: nothing for axe to judge, and yet most of a
    page's elements, each of which it would visit for every rule.
    """
    tab.evaluate(
        """() => {
            const boxes = [...document.querySelectorAll("mjx-container > mjx-math")].map((box) => {
                const { width, height } = box.getBoundingClientRect();
                return [box, width, height];
            });
            for (const [box, width, height] of boxes) {
                box.replaceChildren();
                box.style.width = `${width}px`;
                box.style.height = `${height}px`;
                box.parentNode.replaceChildren(box);
            }
        }"""
    )


def violations(tab: Page, rules: list[str] | None = None) -> dict[str, list[str]]:
    """axe's findings: rule -> the elements that break it. All rules of WCAG are looked at, or those that are named.

    The page is simpler afterwards: without what is alike, and without the inside of formulas.
    """
    alike_once(tab)
    formulas_boxed(tab)
    found = Axe().run(tab, options={**WCAG, "runOnly": rules} if rules else WCAG).response["violations"]
    return {rule["id"]: [node["html"][:120] for node in rule["nodes"]] for rule in found}
