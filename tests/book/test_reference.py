"""The pages to look things up in: no public name is missing, and the alphabet leads to the first word of each letter."""

import ast
import inspect
import re
from collections import Counter

from bs4 import BeautifulSoup
from repository import ROOT

import tempscale


def soup(site, page):
    return BeautifulSoup((site / "book" / f"{page}.html").read_text("utf-8"), "html.parser")


def test_the_api_has_every_public_name_once(site):
    rooms = [soup(site, f"api/{path.stem}") for path in sorted((ROOT / "book" / "api").glob("*.md"))]
    names = Counter(entry["id"] for page in rooms for entry in page.select("dl.py > dt[id]"))
    assert set(names.values()) == {1}
    assert {name for name in names if name.count(".") == 1} == {f"tempscale.{name}" for name in tempscale.__all__}
    # what Python says of a field that has no description, and what a signature shows of a function
    assert not any(words in page.get_text() for page in rooms for words in ("Alias for field", "<function"))
    index = [a["href"].partition("#")[2] for a in soup(site, "api").select(".api-index li a.reference:first-child")]
    assert sorted(index) == sorted(name for name in names if name.count(".") == 1)


def test_each_line_of_code_by_task_is_a_call_that_the_package_takes():
    tasks = (ROOT / "book" / "api.md").read_text("utf-8").partition("## By task")[2].partition("## All names")[0]
    lines = [line for line in tasks.splitlines() if line.startswith(": `")]
    calls = 0
    for code in re.findall("`([^`]+)`", " ".join(lines)):
        for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name):
                signature = inspect.signature(getattr(tempscale, call.func.id))
                signature.bind(*call.args, **{keyword.arg: keyword for keyword in call.keywords})
                calls += 1
    assert calls >= len(lines) >= 11


def test_the_alphabet_of_the_glossary_leads_to_the_first_word_of_each_letter():
    page = (ROOT / "book" / "glossary.md").read_text("utf-8")
    words = re.findall(r"^(\S.*)\n  \S", page.partition("```{glossary}")[2], re.MULTILINE)
    assert [word.lower() for word in words] == sorted(word.lower() for word in words)
    first = {}
    for word in words:
        first.setdefault(word[0].upper(), word)
    assert re.findall(r"\{term\}`([A-Z]) <([^>]+)>`", page) == list(first.items())


def test_the_status_page_lists_every_chapter_with_code(site):
    chapters = sorted(path.stem for path in (ROOT / "book").glob("*.md") if "{code-cell}" in path.read_text("utf-8"))
    rows = [row for row in soup(site, "status").select("table")[0].select("tbody tr") if row.a]
    assert sorted(row.a["href"].removesuffix(".html") for row in rows) == chapters
    assert {row.select("td")[3].get_text(strip=True) for row in rows} == {"ok"}
