"""The notebooks for Colab: up to date, clean, and flattened as a reader without the book needs them."""

import re
import subprocess
import sys
from datetime import date, timedelta
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import flatten
import nbformat
import notebooks
import pytest
import run_notebooks
from flatten import Flattener, FlattenError
from references import Book
from repository import ROOT, address, book_url, colab_url
from support.tiny_book import FRONT

BLOB = f"{address()}/blob/main"
ONE = (
    FRONT
    + """(ch-one)=
# Chapter one

$$
a = b
$$ (eq-rate)

```{prf:theorem} Filter rate
:label: thm-rate
Text.
```

```{exercise}
:label: ex-first
Do it.
```

```{code-cell} ipython3
---
tags: [hide-input]
mystnb:
  figure:
    caption: "A line: $x$ by {term}`token`."
    name: fig-line
  image:
    alt: A line.
---
1 + 1
```

```{code-cell} ipython3
:tags: [remove-cell]
1 + 1
```

```{solution-start} ex-first
:class: dropdown
```

So:

```{code-cell} ipython3
1 + 2
```

```{solution-end}
```

```{code-cell} ipython3
1 + 3
```
"""
)
BIB = """
@misc{one, author = {M{\\"u}ller, Ada}, title = {A}, year = {2020}, eprint = {2001.00001}}
@misc{two, author = {Li, Bo and Diaz, Eva}, title = {B}, year = {2021}, doi = {10.1/x}}
@misc{three, author = {Li, Bo and Diaz, Eva and Sy, Ann}, title = {C}, year = {2022}}
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    folder = tmp_path_factory.mktemp("book")
    (folder / "one.md").write_text(ONE, "utf-8")
    (folder / "two.md").write_text("# Page two\n\n(sec-two)=\n## A section\n", "utf-8")
    (folder / "references.bib").write_text(BIB, "utf-8")
    return Book(folder)


@pytest.fixture
def flat(book: Book) -> Flattener:
    return Flattener(book, "one.md")


COLAB_ONE = notebooks.colab_url("book/one.ipynb")
INLINE = [
    ("{cite}`one`", "([Müller, 2020](https://arxiv.org/abs/2001.00001))"),
    (
        "{cite:p}`one,two`",
        "([Müller, 2020](https://arxiv.org/abs/2001.00001); [Li and Diaz, 2021](https://doi.org/10.1/x))",
    ),
    ("{cite:t}`two`", "[Li and Diaz (2021)](https://doi.org/10.1/x)"),
    ("{cite:t}`three`", "Li et al. (2022)"),
    ("{ref}`ch-one`", "“Chapter one”"),
    ("{ref}`sec-two`", f"[“A section”]({BLOB}/book/two.md)"),
    ("{ref}`here <sec-two>`", f"[here]({BLOB}/book/two.md)"),
    ("{numref}`fig-line`", "Figure (line)"),
    ("{numref}`Fig. %s <fig-line>`", "Figure (line)"),
    ("{eq}`eq-rate`", "(rate)"),
    ("{prf:ref}`thm-rate`", "Theorem (Filter rate)"),
    ("{ref}`ex-first`", "Exercise (first)"),
    ("{doc}`two`", f"[Page two]({BLOB}/book/two.md)"),
    ("{doc}`one`", f"[Chapter one]({COLAB_ONE})"),
    ("[that](two.md#x)", f"[that]({BLOB}/book/two.md)"),
    ("[](#thm-rate)", "Theorem (Filter rate)"),
    ("[code](../tempscale/patch.py)", f"[code]({BLOB}/tempscale/patch.py)"),
    ("[out](https://example.org)", "[out](https://example.org)"),
    ("{term}`token`", "token"),
    ("{term}`tokens <token>`", "tokens"),
    ("{func}`~tempscale.patch`", "`tempscale.patch`"),
    ("{glue:text}`mean_cosine:.2f`", "`mean_cosine`"),
    ("{measured}`one.mean_cosine:.2f`", f"[`mean_cosine`]({COLAB_ONE})"),
    ("{math}`x^2`", "$x^2$"),
    (
        "{verified}`tests/test_a.py::test_b`",
        f"[✓ verified numerically by test_b]({BLOB}/tests/test_a.py)",
    ),
    ("Text. {runtime}`The page runs in`", "Text. "),
    ("a[^1]\n\n[^1]: Note.", "a<sup>1</sup>\n\n<sup>1</sup> Note."),
    ("![A plot](plot.png){width=50%}", f"![A plot]({address()}/raw/main/book/plot.png)"),
    # what only looks like a role or a reference stays
    ("`` {ref}`none` ``", "`` {ref}`none` ``"),
    ("$\\hat{x}_{[1](2)}$", "$\\hat{x}_{[1](2)}$"),
    ("```python\nx = '{ref}`none`'\n```", "```python\nx = '{ref}`none`'\n```"),
    ("% a comment\ntext", "text"),
    ("(label)=\n## Title", "## Title"),
]
BLOCKS = [
    ("```{prf:theorem} Main\nSee {eq}`eq-rate`.\n```", "> **Theorem (Main).** See (rate)."),
    ("```{prf:definition}\n:label: def-dc\nText.\n```", "> **Definition (dc).** Text."),
    (
        ":::{prf:lemma} L\nFirst\n\n$$\na\n= b\n$$\n\nlast.\n:::",
        "> **Lemma (L).** First\n>\n> $$ a = b $$\n>\n> last.",
    ),
    (
        "````{dropdown} Proof\n```{prf:proof}\nEasy.\n```\n````",
        "<details>\n<summary>Proof</summary>\n\n*Proof.* Easy.\n\n</details>",
    ),
    ("```{prf:proof}\nEasy.\n```", "<details>\n<summary>Proof</summary>\n\n*Proof.* Easy.\n\n</details>"),
    ("```{exercise} E\nDo.\n```", "> **Exercise (E).** Do."),
    (
        "```{solution} ex-first\n:class: dropdown\nSo.\n```",
        "<details>\n<summary>Solution</summary>\n\nSo.\n\n</details>",
    ),
    ("```{exercise-start} E\nDo.\n```", "**Exercise (E).** Do."),
    ("```{solution-start} ex-first\nSo.\n```\n\n```{solution-end}\n```", "**Solution.** So."),
    ("```{note}\nHear.\n```", "> **Note.** Hear."),
    ("```{tip} Hear.\n```", "> **Tip.** Hear."),
    ("```{warning}\nHear\n\nme.\n```", "> **Warning.** Hear\n>\n> me."),
    ("```{admonition} What to take away\n:class: tip\nThis.\n```", "> **What to take away.**\n>\n> This."),
    ("```{math}\n:label: eq-x\na\n```", '$$\na\n$$\n\n<div align="right">(x)</div>'),
    ("$$\na\n$$ (eq-x)", '$$\na\n$$\n\n<div align="right">(x)</div>'),
    ("$$\na\n$$", "$$\na\n$$"),
    ("```{code-block} python\nx = '$y$'\n```", "```python\nx = '$y$'\n```"),
    (
        "```{figure} plot.png\n:alt: Lines: two\n:name: fig-two\nThe caption.\n```",
        f"![Lines: two]({address()}/raw/main/book/plot.png)\n\n*Figure (two).* The caption.",
    ),
    (
        "```{explorer} demo\n:alt: Dots.\n:name: fig-live\nThe caption.\n```",
        f"![Dots.]({address()}/raw/main/book/_static/explorers/demo.svg)\n\n*Figure (live).* The caption. {flatten.LIVE}",
    ),
    ("```{image} plot.png\n:alt: Lines\n```", f"![Lines]({address()}/raw/main/book/plot.png)"),
    ("```{table} The title\n| a |\n|---|\n| b |\n```", "*The title*\n\n| a |\n|---|\n| b |"),
    ("{{ install }}", f'```bash\npip install \\\n  "tempscale[offline,eval] @ git+{address()}"\n```'),
    ("- item\n\n  ```{note}\n  Hear.\n  ```", "- item\n\n  > **Note.** Hear."),
]
UNKNOWN = [
    ("text\n{nosuch}`x`", r"book/one\.md:2: unknown role \{nosuch\}"),
    ("text\n\n```{note}\n:class: x\n\ntext\n{nosuch}`x`\n```", r"book/one\.md:7: unknown role \{nosuch\}"),
    ("text\n\n```{nosuch}\n```", r"book/one\.md:3: unknown directive \{nosuch\}"),
    ("````{note}\n```{eval-rst}\n```\n````", r"book/one\.md:2: unknown directive \{eval-rst\}"),
    ("{{ name }}", r"book/one\.md:1: unknown substitution"),
    ("{cite:year}`one`", r"unknown role \{cite:year\}"),
    ("{cite}`nosuch`", r"'nosuch' is not in references\.bib"),
    ("{ref}`nosuch`", r"no label 'nosuch'"),
    ("{doc}`nosuch`", r"no page 'book/nosuch\.md'"),
    (":::\ntext\n:::", r"fence of colons without a directive"),
]


@pytest.mark.parametrize(("myst", "plain"), INLINE + BLOCKS)
def test_flattens(flat: Flattener, myst: str, plain: str) -> None:
    assert flat.flatten(myst) == plain


@pytest.mark.parametrize("kind", sorted(flatten.THEOREMS))
def test_flattens_every_kind_of_theorem(flat: Flattener, kind: str) -> None:
    name = kind.removeprefix("prf:").capitalize()
    assert flat.flatten(f"```{{{kind}}} T\nText.\n```") == f"> **{name} (T).** Text."


@pytest.mark.parametrize(("myst", "message"), UNKNOWN)
def test_names_what_it_does_not_know(flat: Flattener, myst: str, message: str) -> None:
    with pytest.raises(FlattenError, match=message):
        flat.flatten(myst)


def test_notebook_of_a_chapter(book: Book, tmp_path: Path) -> None:
    path = tmp_path / "one.md"
    path.write_text(ONE, "utf-8")
    cells = notebooks.notebook(path, book).cells
    kinds = "".join(cell.cell_type[0] for cell in cells)
    assert kinds == "mcmcmc" + "mcc"
    assert cells[0].source.startswith("# Chapter one\n")
    assert f'"tempscale[offline] @ git+{address()}"' in cells[1].source
    assert not cells[2].source.startswith("#")
    folded = {"cellView": "form", "jupyter": {"source_hidden": True}}
    assert cells[3].metadata == folded
    assert cells[4].source == "*Figure (line).* A line: $x$ by token."
    assert cells[5].metadata == {}
    # the code of a solution is folded, what comes after it is not
    assert cells[6].source == "**Solution.** \n\nSo:"
    assert [cell.metadata for cell in cells[7:]] == [folded, {}]
    # equal cells need different names
    assert len({cell.id for cell in cells}) == len(cells)
    assert notebooks.notebook(path, book) == notebooks.notebook(path, book)


def test_check_finds_what_is_stale(tmp_path: Path) -> None:
    folder = tmp_path / "book"
    folder.mkdir()
    (folder / "one.md").write_text(ONE, "utf-8")
    (folder / "references.bib").write_text(BIB, "utf-8")
    (folder / "gone.ipynb").write_text("{}", "utf-8")
    (tmp_path / "_toc.yml").write_text("root: book/one\n", "utf-8")
    readme = '![A](old/book/_static/a.png) [the book](old) [on Colab](old) "x @ git+old" [else](old)\n'
    (tmp_path / "README.md").write_text(readme, "utf-8")
    (tmp_path / "CITATION.cff").write_text("repository-code: old\nversion: 1\n", "utf-8")
    found = notebooks.stale(tmp_path)
    assert {path.name for path in found} == {"one.ipynb", "gone.ipynb", "README.md", "CITATION.cff"}
    assert found[folder / "gone.ipynb"] is None
    assert found[tmp_path / "README.md"] == (
        f"![A]({address()}/raw/main/book/_static/a.png) [the book]({book_url()}/) "
        f'[on Colab]({colab_url("book/phenomenon.ipynb")}) "x @ git+{address()}" [else](old)\n'
    )
    assert found[tmp_path / "CITATION.cff"] == f'repository-code: "{address()}"\nversion: 1\n'

    for path, text in found.items():
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text, "utf-8")
    assert notebooks.stale(tmp_path) == {}


def test_notebooks_are_up_to_date() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "book/_ext/notebooks.py", "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
        else:
            # code that is shown and not run, such as texts[["text"]]
            prose = re.sub(r"^(`{3,}|~{3,})python\n.*?^\1$", "", cell.source, flags=re.M | re.S)
            assert re.findall(r"^:::.*|\{[a-z:-]+\}`.*|```\{.*|^\(.+\)=$|\[\[.*", prose, re.M) == []


@pytest.mark.parametrize(
    ("line", "extras"),
    [
        ("from tempscale import load_model", "offline"),
        ("import mteb", "offline,eval"),
        ("units = evaluate(model, [task], [1.0])", "offline,eval"),
        ("found = advise(model, pairs)", "offline,eval"),
        ("advised = read_results('advise/qmsum.remedies.csv')", "offline"),
    ],
)
def test_a_notebook_installs_what_its_cells_need(tmp_path: Path, line: str, extras: str) -> None:
    (tmp_path / "references.bib").write_text("", "utf-8")
    path = tmp_path / "page.md"
    path.write_text(f"{FRONT}# Page\n\n```{{code-cell}} ipython3\n{line}\n```\n", "utf-8")
    cells = notebooks.notebook(path, Book(tmp_path)).cells
    assert f'"tempscale[{extras}] @ git+' in cells[1].source


@pytest.mark.parametrize(
    ("line", "packages"),
    [
        ('texts = docstrings(\n    ["numpy", "sklearn"], min_tokens=3)', ["numpy", "scikit-learn"]),
        ('task = DocstringRetrieval(queries=16, packages=["scipy"])', ["scipy"]),
        ("texts = read_texts('mine.txt')", []),
    ],
)
def test_a_notebook_reads_the_docstrings_of_the_locked_versions(line: str, packages: list[str]) -> None:
    found = re.findall(r'"([\w-]+)==([\d.]+)"', notebooks.set_up(line))
    assert found == [(name, version(name)) for name in packages]


def test_every_docstring_that_a_chapter_reads_is_of_the_lock() -> None:
    """Whether the packages stand in the call itself, where the notebook's first cell finds them."""
    for path in NOTEBOOKS:
        code = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        calls = re.findall(r"\bdocstrings\(|\bDocstringRetrieval\(", code)
        assert len(calls) == len(re.findall(notebooks.READ, code)), path.name


def test_every_notebook_has_its_turn() -> None:
    every, day = run_notebooks.names(), date(2026, 12, 31)
    assert [path.stem for path in NOTEBOOKS] == every
    for count in (1, 2, 3):
        days = -(-len(every) // count)
        turns = [run_notebooks.todays(count, day + timedelta(i)) for i in range(days)]
        assert all(len(set(turn)) == count for turn in turns)
        assert set(chain(*turns)) == set(every)


def test_a_notebook_runs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder and an empty home, without a host to reach; what goes wrong is said."""
    cells = [
        "import os, urllib.request, pathlib",
        "assert not list(pathlib.Path().iterdir())",
        "assert not [p for p in pathlib.Path.home().iterdir() if p.name not in {'empty', '.ipython', '.cache', '.local'}]",
        "assert 'SECRET' not in os.environ",
        "urllib.request.urlopen('https://example.org', timeout=20)",
    ]
    (tmp_path / "book").mkdir()
    monkeypatch.setattr(run_notebooks, "ROOT", tmp_path)
    monkeypatch.setenv("SECRET", "1")
    for name, sources in {"works": cells[:-1], "fetches": cells}.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        nbformat.write(notebook, tmp_path / "book" / f"{name}.ipynb")
    works, fetches = (run_notebooks.run(Path(sys.executable), name, threads=1) for name in ("works", "fetches"))
    assert works.error == ""
    assert run_notebooks.line(works).endswith(" s  passed")
    assert "URLError" in run_notebooks.line(fetches)
    assert "Connection refused" in run_notebooks.line(fetches)


@pytest.mark.network
@pytest.mark.timeout(1800)
def test_todays_notebooks_run_in_a_fresh_environment() -> None:
    """As a reader runs them: the installed wheel, an empty folder, no repository, no model hub. Others every day."""
    runs = run_notebooks.run_all(run_notebooks.todays(2, date.today()), sys.executable, jobs=2)
    assert [one.error for one in runs] == ["", ""]
