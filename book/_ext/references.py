"""Readable names for what a chapter refers to: labels of the book, terms, and works of the bibliography."""

import re
from dataclasses import dataclass
from pathlib import Path

import claims
import myst
from myst_nb.core.read import is_myst_markdown_notebook
from pybtex.database import Entry, parse_file
from repository import colab_url, source_url

_TARGET = re.compile(r"^\((?P<label>[^()\s]+)\)=\s*\n(?:\s*\n|\(.+\)=\s*\n)*#+ +(?P<title>.+)$", re.M)
_EQUATION = re.compile(r"^\s*\$\$\s*\((?P<label>[^()\s]+)\)\s*$", re.M)


@dataclass(frozen=True)
class Label:
    """Where a label stands and what to call it in a text without numbers."""

    name: str
    page: str


def title(path: Path) -> str:
    """The page's title, its first heading."""
    found = re.search(r"^# +(.+)$", path.read_text("utf-8"), re.M)
    if not found:
        raise ValueError(f"{path.name} has no title: begin it with a line '# Title'")
    return found[1].strip()


def short(label: str) -> str:
    """A label without its kind: `eq-rate` and `eq:rate` give `rate`."""
    return re.sub(r"^[a-z]+[-:]", "", label)


def heading(kind: str, argument: str, label: str) -> str:
    """What to call a numbered block without its number: `Theorem (Filter rate)`."""
    inside = argument or short(label)
    return f"{kind.capitalize()} ({inside})" if inside else kind.capitalize()


class Book:
    """The names of every label in the pages of a folder, and its bibliography."""

    def __init__(self, folder: Path) -> None:
        """Read every page of the folder and its references.bib."""
        self.labels: dict[str, Label] = {}
        self.titles: dict[str, str] = {}
        self.executable: set[str] = set()
        for path in sorted(folder.glob("*.md")):
            self._read(path)
        ledger = folder / "claims.toml"
        for claim in claims.load(ledger) if ledger.is_file() else []:
            self.labels[claim.label] = Label(f"“{claim.title}”", "claims.md")
        self.works = parse_file(folder / "references.bib").entries

    def _read(self, path: Path) -> None:
        text = path.read_text("utf-8")
        self.titles[path.name] = title(path)
        if is_myst_markdown_notebook(text):
            self.executable.add(path.name)
        for match in _TARGET.finditer(text):
            self.labels[match["label"]] = Label(f"“{match['title'].strip()}”", path.name)
        for match in _EQUATION.finditer(text):
            self.labels[match["label"]] = Label(f"({short(match['label'])})", path.name)
        for directive in myst.walk(text):
            options = directive.options
            label = options.get("label") or options.get("name")
            kind = directive.name.removeprefix("prf:").removesuffix("-start")
            if directive.name == "code-cell":
                # a figure's name is in the cell's own metadata
                label, kind = options.get("mystnb", {}).get("figure", {}).get("name"), "figure"
            if not label:
                continue
            if kind == "math":
                self.labels[label] = Label(f"({short(label)})", path.name)
            elif kind in {"explorer", "figure", "image"}:
                self.labels[label] = Label(heading("figure", "", label), path.name)
            else:
                self.labels[label] = Label(heading(kind, directive.argument, label), path.name)

    def url(self, page: str) -> str:
        """Where a notebook's reader finds another page: chapters on Colab, the rest in the repository."""
        if page in self.executable:
            return colab_url(f"book/{Path(page).stem}.ipynb")
        return source_url(f"book/{page}")

    def refer(self, label: str, page: str, text: str = "") -> str:
        """Name a label; link it if it stands on a page other than `page`. An unknown label is a KeyError."""
        found = self.labels[label]
        name = text or found.name
        return name if found.page == page else f"[{name}]({self.url(found.page)})"

    def cite(self, key: str, *, inside: bool) -> str:
        """`Zhou et al. (2025)`, or inside brackets `Zhou et al., 2025`, linked. An unknown key is a KeyError."""
        entry = self.works[key]
        year = entry.fields["year"]
        name = f"{_authors(entry)}, {year}" if inside else f"{_authors(entry)} ({year})"
        url = _url(entry)
        return f"[{name}]({url})" if url else name


def _authors(entry: Entry) -> str:
    names = [" ".join(str(part) for part in person.rich_last_names) for person in entry.persons["author"]]
    if len(names) > 2:
        return f"{names[0]} et al."
    return " and ".join(names)


def _url(entry: Entry) -> str:
    if "doi" in entry.fields:
        return f"https://doi.org/{entry.fields['doi']}"
    if "eprint" in entry.fields:
        return f"https://arxiv.org/abs/{entry.fields['eprint']}"
    return entry.fields.get("url", "")
