"""A one-page book, built with the real configuration: what must fail does, what is unchanged is not run again."""

import os
from pathlib import Path

import nbformat
import pytest
from support.tiny_book import FRONT, TinyBook

PAGE = (
    FRONT
    + """# A page

{{verified}}`{verified}`

```{{code-cell}} ipython3
from pathlib import Path

import tempscale

with Path("executions.txt").open("a") as file:
    file.write("x")
assert {assertion}
```
"""
)


class OnePage(TinyBook):
    """Its page runs a cell, and has the mark of a test."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.page()

    def page(self, assertion: str = "True", verified: str = "tests/test_toy.py::test_true") -> None:
        self.write("book/index.md", PAGE.format(assertion=assertion, verified=verified))

    def executions(self) -> int:
        return len((self.folder / "book" / "executions.txt").read_text("utf-8"))


@pytest.fixture
def book(tmp_path: Path) -> OnePage:
    return OnePage(tmp_path)


def test_executes_again_only_when_the_package_changes(book: OnePage) -> None:
    first = book.build()
    assert first.returncode == 0, first.stdout + first.stderr
    assert book.executions() == 1

    assert book.build().returncode == 0
    assert book.executions() == 1

    book.write("tempscale/__init__.py", '"""A package."""  # a comment\n')
    assert book.build().returncode == 0
    assert book.executions() == 2

    book.write("book/results/sweep.json", "{}")
    assert book.build().returncode == 0
    assert book.executions() == 3
    assert len(list((book.folder / "_build" / ".jupyter_cache").iterdir())) == 1

    html = (book.folder / "_build" / "html" / "book" / "index.html").read_text("utf-8")
    assert 'blob/main/tests/test_toy.py#L1"' in html
    assert "✓ verified numerically by test_true" in html


def test_a_failing_assertion_fails_the_build(book: OnePage) -> None:
    book.page(assertion="1 + 1 == 3")
    result = book.build()
    assert result.returncode != 0
    assert "AssertionError" in result.stdout + result.stderr


@pytest.mark.parametrize("missing", ["tests/test_toy.py::test_false", "tests/test_none.py::test_true", "test_true"])
def test_an_unknown_verified_test_fails_the_build(book: OnePage, missing: str) -> None:
    book.page(verified=missing)
    result = book.build()
    assert result.returncode != 0
    assert f"no test '{missing}'" in result.stderr


def test_a_failed_build_fails_again(book: OnePage) -> None:
    book.page(verified="tests/test_toy.py::test_false")
    assert book.build().returncode != 0
    assert book.build().returncode != 0


@pytest.mark.skipif(os.cpu_count() == 1, reason="one core")
def test_several_pages_are_executed_side_by_side_and_once(book: OnePage) -> None:
    book.write("_toc.yml", "format: jb-book\nroot: book/index\nchapters: [file: book/two, file: book/three]\n")
    meeting = """
```{{code-cell}} ipython3
import os
import time

assert os.environ["OMP_NUM_THREADS"] == "1"
Path("{name}.here").touch()
until = time.monotonic() + 60
while not Path("{other}.here").exists():  # which only the other page, at the same time, can end
    assert time.monotonic() < until
    time.sleep(0.1)
print("{name} met {other}")
```
"""
    plain = PAGE.format(assertion="True", verified="tests/test_toy.py::test_true")
    for name, other in (("two", "three"), ("three", "two")):
        book.write(f"book/{name}.md", plain + meeting.format(name=name, other=other))
    first = book.build()
    assert first.returncode == 0, first.stdout + first.stderr
    assert book.executions() == 3
    assert outputs(book, "two") == ["two met three\n"]
    two = book.folder / "book" / "two.md"
    two.write_text(two.read_text("utf-8").replace("A page", "A title"), "utf-8")
    assert book.build().returncode == 0
    assert book.executions() == 3
    # the title changed, the cells come from the cache, and readers download them with what they printed
    assert outputs(book, "two") == ["two met three\n"]


def outputs(book: OnePage, page: str) -> list[str]:
    """What the cells of a page printed, in the notebook that its page offers."""
    path = book.folder / "_build" / "html" / "_sources" / "book" / f"{page}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    return [output.text for cell in cells if cell.cell_type == "code" for output in cell.outputs]
