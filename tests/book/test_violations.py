"""What is left out of the look at colours is alike: a fault that one element has is found among many that are right."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page
from support.pages import COLOURS, violations


def section(of: str) -> str:
    """Twelve paragraphs with a link each, p0 to p11 and ap0 to ap11 for those of "p"."""
    return "".join(
        f'<p id="{of}{i}">A sentence, and <a href="#p1" id="a{of}{i}">a link</a> in it.</p>' for i in range(12)
    )


PAGE = f"""<!doctype html><html lang="en"><head><title>Lines</title><style>
body {{{{ background: #fff; color: #222; }}}} a {{{{ color: #0645ad; }}}} section {{{{ background: #fff; }}}} {{style}}
</style></head><body><main><h1>Lines</h1><section>{section("p")}</section><section>{section("q")}</section></main></body>
</html>"""


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def show(tab: Page, style: str) -> None:
    tab.set_content(PAGE.format(style=style))


@pytest.mark.parametrize(
    ("style", "rule", "found"),
    [
        ("", None, ()),
        ("#p9 { color: #999; }", "color-contrast", ("p9",)),
        ("section + section { background: #555; }", "color-contrast", ("q0", "aq0")),
        ("section + section { opacity: 0.4; }", "color-contrast", ("q0", "aq0")),
        ("#ap7 { color: #9bf; }", "color-contrast", ("ap7",)),
        ("#ap7 { color: #333; text-decoration: none; }", "link-in-text-block", ("ap7",)),
        ("#p9 { color: #345; } #p9 a { color: #357; text-decoration: none; }", "link-in-text-block", ("ap9",)),
    ],
)
def test_one_fault_among_many(tab: Page, style: str, rule: str | None, found: tuple[str, ...]) -> None:
    for rules in (None, COLOURS):
        show(tab, style)
        said = violations(tab, rules)
        assert set(said) == ({rule} if rule else set())
        assert all(any(f'id="{name}"' in node for node in said[rule]) for name in found)


def test_each_time_anew(tab: Page) -> None:
    show(tab, "")
    assert violations(tab, COLOURS) == {}
    tab.add_style_tag(content="#p9 { color: #999; }")
    assert set(violations(tab, COLOURS)) == {"color-contrast"}


def test_rules_that_are_not_about_colours_look_at_everything(tab: Page) -> None:
    show(tab, "")
    tab.evaluate("document.querySelector('#q9').innerHTML += '<img src=\"data:,\"><button></button>'")
    assert set(violations(tab)) == {"image-alt", "button-name"}
