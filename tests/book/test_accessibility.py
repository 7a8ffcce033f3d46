"""Every page as axe judges it, in the light and in the dark, with all folds open."""

import pytest
from playwright.sync_api import Browser
from support.pages import opened, violations


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible(browser: Browser, address: str, page: str, scheme: str) -> None:
    with opened(browser, f"{address}/book/{page}.html", scheme=scheme) as (tab, _):
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        tab.evaluate("document.querySelectorAll('details').forEach((node) => (node.open = true))")
        # the scheme changes colours, and nothing else
        rules = ["color-contrast", "link-in-text-block"] if scheme == "dark" else None
        assert violations(tab, rules) == {}
