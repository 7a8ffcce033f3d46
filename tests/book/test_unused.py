"""What is taken out of the site's scripts, style sheets and fonts is what no page uses, in every build anew."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import unused
from fontTools.ttLib import TTFont
from sphinx.errors import ExtensionError


class Site:
    """A built site of one page, without its style sheets but for the theme's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.static = folder / "_static"
        for name in ("scripts", "styles", unused.FONTS):
            (self.static / name).mkdir(parents=True)
        for path in unused.STYLES:
            (self.static / "styles" / path.name).write_text("", "utf-8")

    def build(self, *icons: str) -> None:
        page = "".join(f'<i class="fa-solid {icon} fa-lg"></i>' for icon in icons)
        (self.folder / "page.html").write_text(
            f"<script src=\"_static/{unused.SCRIPT}?digest=0\"></script>{page}<div class='sd-dropdown'></div>", "utf-8"
        )
        unused.take_out(SimpleNamespace(outdir=str(self.folder), builder=SimpleNamespace(format="html")), None)

    def icons(self) -> set[str]:
        script = (self.static / unused.SCRIPT).read_text("utf-8")
        return {icon[1] for icon in unused.ICON.finditer(script)}

    def style(self, name: str) -> str:
        return (self.static / "styles" / f"{name}.css").read_text("utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_every_build_has_the_icons_of_its_pages(site: Site) -> None:
    site.build("fa-rocket")
    assert site.icons() == {"rocket"}
    site.build("fa-rocket", "fa-pencil-alt")  # another name of pencil
    assert site.icons() == {"rocket", "pencil"}
    shown = set(re.findall(r"\.fa-([a-z-]+):before[,{]", site.style("pydata-sphinx-theme")))
    assert shown >= {"rocket", "pencil-alt"}
    assert "bars" not in shown
    glyphs = TTFont(site.static / unused.FONTS / "fa-solid-900.ttf").getBestCmap()
    # the last is drawn by the theme's style sheet: a note's sign
    assert {0xF135, 0xF303, 0xF05A} <= glyphs.keys()
    assert len(glyphs) < 50


def test_an_icon_that_is_not_found_fails_the_build(site: Site) -> None:
    with pytest.raises(ExtensionError, match=r"has no icon 'fa-solid fa-rokcet fa-lg' that book/_ext/unused.py can"):
        site.build("fa-rokcet")


def test_rules_without_a_page_are_left_out(site: Site) -> None:
    site.build()
    assert ".sd-dropdown" in site.style("sphinx-design.min")
    assert "sd-btn" not in site.style("sphinx-design.min")
    assert ".-Color[" not in site.style("mystnb")
    assert "div.cell_input" in site.style("mystnb")


@pytest.mark.parametrize(("text", "kept"), [("sd-a", True), ("sd-b sd-c", True), ("sd-b", False), ("sd-ab", False)])
def test_a_rule_stays_if_all_names_of_a_selector_are_used(text: str, kept: bool) -> None:
    (rule, name) = unused.STYLES[next(path for path in unused.STYLES if path.name.startswith("sphinx-design"))]
    style = ":root{--sd-x:1}.sd-a,a.sd-b>.sd-c{color:red}@media print{.sd-a{color:blue}}"
    rest = ":root{--sd-x:1}@media print{}"
    found = unused.used_rules(style, rule, name, text)
    assert (".sd-a,a.sd-b>.sd-c{color:red}" in found) is kept
    assert found.startswith(":root{--sd-x:1}")
    if not kept:
        assert found == rest


def test_a_browser_asks_anew_for_what_has_changed(site: Site) -> None:
    versions = []
    for icons in (["fa-rocket"], ["fa-rocket"], ["fa-rocket", "fa-pencil"]):
        site.build(*icons)
        versions += re.findall(r"fontawesome\.js\?digest=([0-9a-f]{8})", (site.folder / "page.html").read_text("utf-8"))
    assert versions[0] == versions[1] != versions[2]
