"""Write the notebooks that open on Colab, one beside each executable chapter, and the links to them.

`python book/_ext/notebooks.py` writes what has changed; with `--check` it lists what is stale, and exits 1
if anything is.
"""

import argparse
import hashlib
import re
import sys
from functools import cache
from pathlib import Path

import nbformat
from flatten import Flattener, FlattenError
from myst import config as parser_config
from myst_nb.core.read import read_myst_markdown_notebook
from nbformat import NotebookNode, v4
from references import Book, title
from repository import ROOT, address, book_url, colab_url, raw_url

HIDDEN = {"hide-input", "hide-cell", "remove-input"}
NOTE = """# {title}

A chapter of [Length collapse and TempScale]({address}), generated from `book/{name}.md`. On Colab the next cell
installs the package. A value that the text calls by its name, as `name`, is printed by the cell before it. The model
runs on the CPU, where the numbers were checked; without `device="cpu"` it runs on a GPU if there is one."""
SET_UP = """import importlib.util

if importlib.util.find_spec("tempscale") is None:
    %pip install -q "tempscale[{extras}] @ git+{address}" """.rstrip()
TEXTS = """

from tempscale.notebook import docstrings_of

# most texts are docstrings, and those of other versions differ
docstrings_of({versions})"""
READ = r"\bdocstrings\(\s*\[(.+?)\]|\bpackages=\[(.+?)\]"  # packages whose docstrings a chapter's code reads
EVALUATION = r"^\s*import mteb\b|\bown_tasks\b|\b(?:advise|evaluate)\("  # code that needs the extra `eval`

# The addresses in the README, which are absolute because it is also the page on a package index.
ADDRESSES = {
    r'(?<=git\+)[^"\s]+(?=")': address(),
    r"(?<=\[the book\]\()[^)]+": f"{book_url()}/",
    r"(?<=\[on Colab\]\()[^)]+": colab_url("book/phenomenon.ipynb"),
    r"(?<=\]\()[^)]+(?=/book/_static/)": raw_url("").rstrip("/"),
}


@cache
def locked(package: str) -> str:
    """The requirement in the lock that brings a package, such as "scikit-learn==1.9.1" for sklearn."""
    name = {"sklearn": "scikit-learn"}.get(package, package)
    return re.search(rf"^{name}==.+", (ROOT / "requirements.lock").read_text("utf-8"), re.M)[0]


def set_up(code: str) -> str:
    """The first cell of a notebook with this code: it installs the package, and gets the texts that the numbers are of."""
    extras = "offline,eval" if re.search(EVALUATION, code, re.M) else "offline"
    packages = sorted({name for match in re.findall(READ, code) for name in re.findall(r'"(\w+)"', "".join(match))})
    versions = ", ".join(f'"{locked(name)}"' for name in packages)
    return SET_UP.format(address=address(), extras=extras) + (TEXTS.format(versions=versions) if versions else "")


def chapters(root: Path, book: Book) -> list[Path]:
    """The executable pages of the book, in the order of its table of contents."""
    order = re.findall(r"file: book/(\S+)", (root / "_toc.yml").read_text("utf-8"))
    pages = [root / "book" / name for name in sorted(book.executable)]
    return sorted(pages, key=lambda path: order.index(path.stem) if path.stem in order else len(order))


def notebook(path: Path, book: Book) -> NotebookNode:
    """Flatten one chapter into a notebook without outputs."""
    flattener = Flattener(book, path.name)
    source = read_myst_markdown_notebook(path.read_text("utf-8"), parser_config(), add_source_map=True, path=path)
    note = NOTE.format(title=title(path), address=address(), name=path.stem)
    code = "\n".join(cell.source for cell in source.cells if cell.cell_type == "code")
    cells = [v4.new_markdown_cell(note), v4.new_code_cell(set_up(code))]
    solution = False
    for cell, line in zip(source.cells, source.metadata["source_map"], strict=True):
        if cell.cell_type == "markdown":
            text = flattener.flatten(cell.source, line + 1)
            if len(cells) == 2:
                text = re.sub(r"\A# .+\n*", "", text)  # the note has the title
            cells += [v4.new_markdown_cell(text)] if text else []
            if marks := re.findall(r"\{solution-(start|end)\}", cell.source):
                solution = marks[-1] == "start"
        else:
            cells += _code(cell, flattener, line, hidden=solution)
    result = v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )
    result.nbformat_minor = 5
    _name_cells(result)
    nbformat.validate(result)
    return result


def _code(cell: NotebookNode, flattener: Flattener, line: int, *, hidden: bool) -> list[NotebookNode]:
    """A code cell, and its figure's caption below it. A hidden one is folded, as is the code of a solution."""
    tags = set(cell.metadata.get("tags", []))
    code = v4.new_code_cell(cell.source)
    if hidden or tags & HIDDEN:
        code.metadata.update({"cellView": "form", "jupyter": {"source_hidden": True}})
    if "raises-exception" in tags:
        code.metadata["tags"] = ["raises-exception"]
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    if "caption" not in figure:
        return [code]
    caption = flattener.flatten(figure["caption"].strip(), line)
    return [code, v4.new_markdown_cell(flattener.caption(caption, figure.get("name", "")))]


def _name_cells(result: NotebookNode) -> None:
    """Give every cell an id that depends on its text alone, so that a change of one leaves the others."""
    seen: dict[str, int] = {}
    for cell in result.cells:
        name = hashlib.sha256(f"{cell.cell_type}:{cell.source}".encode()).hexdigest()[:12]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"


def expected(root: Path) -> dict[Path, str | None]:
    """What every generated file should hold; None for a notebook that has lost its chapter."""
    book = Book(root / "book")
    pages = chapters(root, book)
    files: dict[Path, str | None] = dict.fromkeys((root / "book").glob("*.ipynb"))
    for path in pages:
        files[path.with_suffix(".ipynb")] = nbformat.writes(notebook(path, book)) + "\n"
    files |= _edited(root / "README.md", ADDRESSES)
    files |= _edited(root / "CITATION.cff", {r"(?m)^repository-code:.*$": f'repository-code: "{address()}"'})
    return files


def _edited(path: Path, parts: dict[str, str]) -> dict[Path, str | None]:
    """The file with its generated parts renewed, if there are such a file and such parts."""
    if not path.is_file():
        return {}
    text = path.read_text("utf-8")
    for pattern, part in parts.items():
        text = re.sub(pattern, lambda _, part=part: part, text)
    return {path: text}


def stale(root: Path) -> dict[Path, str | None]:
    """Those of the expected files that are not as they should be."""
    return {
        path: text
        for path, text in expected(root).items()
        if text is None or not path.is_file() or path.read_text("utf-8") != text
    }


def main() -> int:
    """Write or check; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the notebooks that open on Colab.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything is stale")
    check = parser.parse_args().check
    try:
        files = stale(ROOT)
    except FlattenError as error:
        print(error, file=sys.stderr)
        return 1
    for path, text in files.items():
        print(f"stale: {path.relative_to(ROOT)}" if check else f"wrote {path.relative_to(ROOT)}")
        if check:
            continue
        if text is None:
            path.unlink()
        else:
            path.write_text(text, "utf-8")
    if check and files:
        print("run `make notebooks`", file=sys.stderr)
    return 1 if check and files else 0


if __name__ == "__main__":
    sys.exit(main())
