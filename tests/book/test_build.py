"""A one-page book, built with the real configuration: what must fail does, what is unchanged is not run again."""

import os
import signal
import time
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
    assert "✓ verified numerically by test_true" in html.replace("<wbr>", "")  # where a long name may break


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


def several(book: OnePage, cells: dict[str, str]) -> None:
    """Give the book these pages beside its first one, each with a cell that knows the page's name as `name`."""
    book.write(
        "_toc.yml", "format: jb-book\nroot: book/index\nchapters:\n" + "".join(f"- file: book/{n}\n" for n in cells)
    )
    plain = PAGE.format(assertion="True", verified="tests/test_toy.py::test_true")
    for name, cell in cells.items():
        sources = (f"name = {name!r}", cell)
        book.write(f"book/{name}.md", plain + "".join(f"\n```{{code-cell}} ipython3\n{s}\n```\n" for s in sources))


MEETING = """
import os
import sys
import time

assert os.environ["OMP_NUM_THREADS"] == "1"
assert not any(folder.endswith("_ext") for folder in sys.path)
Path(f"{name}.here").touch()
(other,) = {"two", "three"} - {name}
until = time.monotonic() + 60
while not Path(f"{other}.here").exists():  # which only the other page, at the same time, can end
    assert time.monotonic() < until
    time.sleep(0.1)
print(f"{name} met {other}")
"""


@pytest.mark.skipif(os.cpu_count() == 1, reason="one core")
def test_several_pages_are_executed_side_by_side_and_once(book: OnePage) -> None:
    several(book, {"two": MEETING, "three": MEETING})
    first = book.build()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "NOTE" not in first.stdout + first.stderr  # by which a kernel says how to connect to it
    assert book.executions() == 3
    assert outputs(book, "two") == ["two met three\n"]
    two = book.folder / "book" / "two.md"
    two.write_text(two.read_text("utf-8").replace("A page", "A title"), "utf-8")
    assert book.build().returncode == 0
    assert book.executions() == 3
    # the title changed, the cells come from the cache, and readers download them with what they printed
    assert outputs(book, "two") == ["two met three\n"]


FIGURE = """
import matplotlib.pyplot as plt

assert plt.rcParams["lines.linewidth"] == 7  # of the file beside the page
plt.plot([1, 2])
plt.show()
"""


def test_a_figure_is_drawn_as_the_file_beside_the_page_says_and_an_unchanged_page_is_left_alone(book: OnePage) -> None:
    book.write("book/matplotlibrc", "lines.linewidth: 7\n")
    options = "---\nmystnb:\n  figure:\n    name: fig-{name}\n    caption: A line.\n  image:\n    alt: a line\n---\n"
    several(book, {name: options.format(name=name) + FIGURE for name in ("two", "three")})
    first = book.build()
    assert first.returncode == 0, first.stdout + first.stderr
    pages = {name: book.folder / "_build" / "html" / "book" / f"{name}.html" for name in ("index", "two", "three")}
    written = {name: page.stat().st_mtime_ns for name, page in pages.items()}
    for number, name in enumerate(("two", "three"), start=1):
        assert f"Fig. A.{number}" in pages[name].read_text("utf-8")
    assert book.build().returncode == 0
    assert {name: page.stat().st_mtime_ns for name, page in pages.items()} == written


WAITING = """
import os
import time

Path(f"{name}.pid").write_text(str(os.getpid()))
time.sleep(100)
"""


@pytest.mark.parametrize("ended", ["by its reader", "by a chapter", "at once"])
def test_a_build_that_ends_early_ends_at_once_and_leaves_no_kernel(book: OnePage, ended: str) -> None:
    failing = "import time\nwhile not Path('three.pid').exists():\n    time.sleep(0.1)\nassert 1 + 1 == 3"
    several(book, {"two": failing if ended == "by a chapter" else WAITING, "three": WAITING})
    pid = book.folder / "book" / "three.pid"
    with book.building() as process:
        until = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()):
            assert time.monotonic() < until
            time.sleep(0.1)
        began = time.monotonic()
        if ended == "by its reader":
            process.send_signal(signal.SIGINT)
        elif ended == "at once":
            process.kill()
        said = "".join(process.communicate(timeout=90))
    assert process.returncode != 0
    assert time.monotonic() - began < 50, said
    if ended == "by a chapter":
        assert "assert 1 + 1 == 3" in said
    kernel = int(pid.read_text())
    until = time.monotonic() + 10
    while Path(f"/proc/{kernel}").exists():
        assert time.monotonic() < until, "the kernel still runs"
        time.sleep(0.1)


def outputs(book: OnePage, page: str) -> list[str]:
    """What the cells of a page printed, in the notebook that its page offers."""
    path = book.folder / "_build" / "html" / "_sources" / "book" / f"{page}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    return [output.text for cell in cells if cell.cell_type == "code" for output in cell.outputs]
