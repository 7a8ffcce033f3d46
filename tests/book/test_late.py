"""Numbers that are known when all pages are read: values of other chapters, and how long the pages take."""

import re

import pytest
import reading_time
from bs4 import BeautifulSoup
from docutils import nodes
from support.tiny_book import FRONT, TinyBook

CHAPTER = (
    FRONT
    + """# A chapter

{{runtime}}`The page runs in`

```{{code-cell}} ipython3
from myst_nb import glue
glue("share", {share}, display=False)
```
"""
)
INDEX = """# A page

It is {measured}`chapter.share:.2f`. Takes {minutes}`chapter`. There are {marks}`marks`.

{verified}`tests/test_toy.py::test_true` {verified}`tests/test_toy.py::test_true`
"""


def book_of(folder, index=INDEX):
    book = TinyBook(folder)
    book.write("_toc.yml", "format: jb-book\nroot: book/index\nchapters: [file: book/chapter]\n")
    book.write("book/index.md", index)
    book.write("book/chapter.md", CHAPTER.format(share=0.126))
    return book


def text(book, page):
    html = (book.folder / "_build" / "html" / "book" / f"{page}.html").read_text("utf-8")
    return " ".join(BeautifulSoup(html, "html.parser").select_one("article").get_text().split())


def test_a_page_says_what_another_computed_and_follows_it(tmp_path):
    book = book_of(tmp_path)
    result = book.build()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "It is 0.13. Takes 5 minutes to read, 1 minute to run. There are 2 marks." in text(book, "index")
    assert "The page runs in less than a minute." in text(book, "chapter")
    book.write("book/chapter.md", CHAPTER.format(share=0.5))
    assert book.build().returncode == 0
    assert "It is 0.50." in text(book, "index")


def test_what_is_not_there_fails_the_build(tmp_path):
    wrong = ["{measured}`chapter.no`", "{measured}`chapter.share:q`", "{minutes}`no`", "{runtime}`It`"]
    result = book_of(tmp_path, "# A page\n\n" + "\n\n".join(wrong)).build()
    assert result.returncode != 0
    for message in [
        "{measured}: no executed chapter glues 'chapter.no': correct it, as chapter.name:format",
        "{measured}: Unknown format code 'q'",
        "{minutes}: no page 'book/no': name pages of this folder, or say all",
        "{runtime}: book/index has no code that was executed: take the role away",
    ]:
        assert message in result.stderr


def test_words_are_those_of_the_prose():
    section = nodes.section("", nodes.title(text="A title"), nodes.paragraph(text="Three words, here - yes."))
    section += nodes.literal_block(text="not = counted")
    section += nodes.math_block(text="a = b")
    section += nodes.container("", nodes.paragraph(text="folded"), classes=["dropdown"])
    section += nodes.paragraph("", "", nodes.Text("with "), nodes.math(text="x^2 + y"))
    assert reading_time.words(section) == 2 + 4 + 2


@pytest.mark.parametrize(("count", "minutes"), [(0, 5), (2600, 15), (3000, 15), (3600, 20), (60_000, 300)])
def test_reading_goes_in_steps_of_five_minutes(count, minutes):
    assert reading_time.reading(count) == minutes


@pytest.mark.parametrize(("count", "words"), [(1, "1 minute"), (75, "75 minutes"), (90, "1.5 hours"), (185, "3 hours")])
def test_minutes_as_they_are_said(count, words):
    assert reading_time.spoken(count) == words


def test_the_paths_take_what_the_built_pages_have(site):
    """Words counted again, in the built pages: the paths are right to a step of five minutes and a sixth."""
    index = BeautifulSoup((site / "book" / "index.html").read_text("utf-8"), "html.parser")
    paths = [term for term in index.select("dt") if "to read" in term.get_text()]
    assert len(paths) == 3
    for term in paths[:2]:
        pages = [a["href"] for a in term.find_next_sibling("dd").select("a")]
        said = int(re.search(r"(\d+) minutes to read", term.get_text())[1])
        counted = sum(map(prose, (site / "book" / page for page in pages))) / 200
        assert said == pytest.approx(counted, abs=2.5 + counted / 6), pages


def prose(path):
    article = BeautifulSoup(path.read_text("utf-8"), "html.parser").select_one("article.bd-article")
    for node in article.select("pre, details, .dropdown, .math, .cell_output table, script, style, .headerlink"):
        node.decompose()
    return len(re.findall(r"\S*\w\S*", article.get_text(" ")))
