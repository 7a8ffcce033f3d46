"""The explorers: what their directive makes of them."""

import json
from pathlib import Path

import explorers
import pytest
from bs4 import BeautifulSoup, Tag
from support.tiny_book import TinyBook

PAGE = """# A page

{{numref}}`fig-demo` shows it.

```{{explorer}} demo
:name: fig-demo
{options}
Dots with $x$, and `code`.
```
"""
OPTIONS = ":alt: Dots & <lines>.\n:preset: start=one, n=8\n"


class Demo(TinyBook):
    """Two pages, the first with an explorer whose data try to leave their script."""

    data = {"text": "</script><b>out</b>", "numbers": [1, 2]}  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.write("_toc.yml", "format: jb-book\nroot: book/index\nchapters: [file: book/two]\n")
        self.write("book/two.md", "# Page two\n")
        self.page()
        for suffix, text in ((".js", "// draws"), (".svg", "<svg/>"), (".json", json.dumps(self.data, indent=1))):
            self.write(f"book/_static/explorers/demo{suffix}", text)

    def page(self, options: str = OPTIONS) -> None:
        self.write("book/index.md", PAGE.format(options=options))

    def html(self, name: str) -> BeautifulSoup:
        return BeautifulSoup((self.folder / f"_build/html/book/{name}.html").read_text("utf-8"), "html.parser")


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


def loaded(page: BeautifulSoup) -> list[Tag]:
    return page.select("script[src*=explorers], link[href*=explorers]")


def test_the_directive_makes_a_numbered_figure_with_root_data_and_picture(demo: Demo) -> None:
    result = demo.build()
    assert result.returncode == 0, result.stdout + result.stderr
    page = demo.html("index")
    (figure,) = page.select("figure")
    assert (figure["id"], figure["data-explorer"]) == ("fig-demo", "demo")
    assert figure["data-preset"] == "start=one,n=8"
    assert "explorer" in figure["class"]
    assert figure.select_one(".explorer-root").contents == []
    (data,) = figure.select("script")
    assert data["type"] == "application/json"
    assert json.loads(data.string) == Demo.data
    assert not figure.select("b"), "the data stay in their script"
    assert {image["src"] for image in figure.select("img")} == {"../_static/explorers/demo.svg"}
    assert {image["alt"] for image in figure.select("noscript img, .explorer-print img")} == {"Dots & <lines>."}
    assert figure.select_one("figcaption .caption-text").get_text() == "Dots with \\(x\\), and code."
    number = figure.select_one("figcaption .caption-number").get_text().strip()
    link = page.select_one("a[href='#fig-demo'] .std-numref").get_text()
    assert link == number.replace(" ", "\N{NO-BREAK SPACE}")

    script, style = sorted(loaded(page), key=lambda tag: tag.name, reverse=True)
    assert script["defer"] == "defer"
    for tag, attribute in ((script, "src"), (style, "href")):
        assert (demo.folder / "_build/html/book" / tag[attribute].partition("?")[0]).is_file()
    assert loaded(demo.html("two")) == [], "a page without one loads nothing"


def test_new_data_reach_the_page(demo: Demo) -> None:
    assert demo.build().returncode == 0
    demo.write("book/_static/explorers/demo.json", '{"new": 1}')
    assert demo.build().returncode == 0
    assert json.loads(demo.html("index").select_one("figure script").string) == {"new": 1}
    (demo.folder / "book/_static/explorers/demo.json").unlink()
    assert demo.build().returncode == 0
    assert demo.html("index").select("figure script") == []


@pytest.mark.parametrize("missing", [".js", ".svg"])
def test_a_missing_file_fails_the_build(demo: Demo, missing: str) -> None:
    (demo.folder / f"book/_static/explorers/demo{missing}").unlink()
    result = demo.build()
    assert result.returncode != 0
    assert f"explorer 'demo' has no file demo{missing}" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "explorer 'demo' has no :alt:"),
        (":alt: Dots.\n:preset: start\n", "explorer 'demo' has the preset 'start': write name=value"),
        (f"{OPTIONS}\nTwo.\n", "the caption of explorer 'demo' must be one paragraph"),
    ],
)
def test_an_incomplete_directive_fails_the_build(demo: Demo, options: str, message: str) -> None:
    demo.page(options)
    result = demo.build()
    assert result.returncode != 0
    assert message in result.stderr


NAMES = sorted(path.stem for path in explorers.FOLDER.glob("*.js"))


@pytest.mark.parametrize("name", NAMES)
def test_an_explorer_is_small(name: str) -> None:
    assert sum(path.stat().st_size for path in explorers.files(name)) <= 100_000
