"""Real texts without a download: the docstrings of the installed scientific packages.

Thousands of technical texts, from a few tokens to thousands, with a natural retrieval task (the summary line asks, the
rest of the docstring answers) and labels (the submodule). They are read from the source files, so nothing is
imported or run, and they change only with the packages' versions.
"""

import ast
import functools
import hashlib
import importlib.util
import inspect
import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tempscale.files import replacing

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["name", "label", "text", "tokens", "summary", "body"]
_Row = tuple[str, str, str, int, str, str]

PACKAGES = ("matplotlib", "numpy", "pandas", "scipy", "sklearn", "torch")

# Folders and files that hold no documentation of the package itself, or (distutils) depend on the Python version.
_SKIPPED = (
    "_examples",
    "_pyinstaller",
    "_test",
    "_vendor",
    "conftest",
    "distutils",
    "examples",
    "externals",
    "test",
    "vendor",
)


def docstrings(packages: Sequence[str] = PACKAGES, *, min_tokens: int = 1) -> "pd.DataFrame":
    """Return the docstrings of public functions, classes and methods, one a row.

    Args:
        packages: import names of packages; they are read, not imported.
        min_tokens: length of the shortest text that is kept, in tokens.

    Returns:
        A frame sorted by name, without duplicate texts, with columns
        name: qualified name, such as "scipy.stats.stats_py.zscore" (leading underscores of modules dropped);
        label: package and first submodule, such as "scipy.stats";
        text: the docstring, without indentation;
        tokens: its length in tokens of all-MiniLM-L6-v2's tokenizer (BERT uncased), special tokens included;
        summary, body: its first paragraph, and the rest;
        pair: whether (summary, body) is a pair of the retrieval task: a body, and no other text shares either.

    Reading takes ten seconds. Where the environment variable TEMPSCALE_CACHE names a folder, what was read of a package
    is kept there, for as long as the package's files stay the same. Where TEMPSCALE_DOCSTRINGS names folders, as PATH does,
    packages are looked for there first: `pip install --no-deps --target FOLDER numpy==2.4.6` puts one there, and what is
    imported stays as it is.

    Raises:
        ModuleNotFoundError: a package that is not installed, or no tokenizer (the extra `tempscale[offline]`).
        ValueError: no package, or no text left.

    >>> frame = docstrings(["numpy"], min_tokens=100)
    >>> "numpy.linalg" in set(frame.label) and bool(frame.tokens.min() >= 100)
    True
    """
    if isinstance(packages, str) or not packages:
        raise ValueError(f"expected a list of package names, such as {list(PACKAGES[:2])}, not {packages!r}")
    frame = _distinct(tuple(packages))
    frame = frame[frame.tokens >= min_tokens].reset_index(drop=True)
    if frame.empty:
        raise ValueError(f"no docstring of at least {min_tokens} tokens in {', '.join(packages)}: lower min_tokens")
    return frame


def _distinct(packages: tuple[str, ...]) -> "pd.DataFrame":
    """Return the docstrings of several packages without duplicate texts, and which of them are pairs."""
    import pandas as pd

    rows = sorted(row for package in packages for row in _kept(package))
    frame = pd.DataFrame(rows, columns=_COLUMNS).drop_duplicates("text", ignore_index=True)
    alone = ~(frame.summary.duplicated(keep=False) | frame.body.duplicated(keep=False))
    return frame.assign(pair=alone & (frame.body != ""))


def _kept(package: str) -> list[_Row]:
    """Return all docstrings of a package, from the folder TEMPSCALE_CACHE where they are there."""
    folder, root = os.environ.get("TEMPSCALE_CACHE"), _root(package)
    if not folder:
        return _read(root)
    seen = hashlib.sha256(Path(__file__).read_bytes())
    for file in [_tokenizer(), *_sources(root)]:
        stat = file.stat()
        seen.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    path = Path(folder, f"docstrings-{package}-{seen.hexdigest()[:16]}.pkl")
    if path.is_file():
        kept: list[_Row] = pickle.loads(path.read_bytes())
        return kept
    rows = _read(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_bytes(pickle.dumps(rows))
    return rows


@functools.cache
def _read(root: Path) -> list[_Row]:
    from tokenizers import Tokenizer

    found = list(_package_docstrings(root))
    tokenizer = Tokenizer.from_file(str(_tokenizer()))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch([text for _, _, text in found])
    return [
        (name, label, text, len(encoding.ids), *_summary_and_body(text))
        for (name, label, text), encoding in zip(found, encoded, strict=True)
    ]


def folders() -> list[str]:
    """Return where packages are looked for before the installed ones."""
    return list(filter(None, os.environ.get("TEMPSCALE_DOCSTRINGS", "").split(os.pathsep)))


def _root(package: str) -> Path:
    """Return the folder of a package, or raise ModuleNotFoundError."""
    for folder in folders():
        if package.isidentifier() and Path(folder, package).is_dir():
            return Path(folder, package).absolute()
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"package {package!r} is not installed: pip install it, or leave it out of `packages`"
        )
    return Path(spec.origin).parent


def _sources(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def _package_docstrings(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield qualified name, label and text of the public docstrings of a package, which has the name of its folder."""
    for file in _sources(root):
        parts = file.relative_to(root).with_suffix("").parts
        # A private folder is no documentation; a private file is where scipy and numpy write the public ones.
        if any(part.startswith(_SKIPPED) for part in parts) or any(part.startswith("_") for part in parts[:-1]):
            continue
        modules = [part.lstrip("_") for part in parts if part != "__init__"]
        label = ".".join([root.name, *modules[:1]]) if len(parts) > 1 else root.name
        for name, text in _public(ast.parse(file.read_bytes()), ".".join([root.name, *modules])):
            yield name, label, text


def _public(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield name and docstring of the public definitions below a module or class."""
    for child in node.body:
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not child.name.startswith("_"):
            name = f"{prefix}.{child.name}"
            text = inspect.cleandoc(ast.get_docstring(child) or "").strip()
            if text:
                yield name, text
            if isinstance(child, ast.ClassDef):
                yield from _public(child, name)


def _summary_and_body(text: str) -> tuple[str, str]:
    summary, _, body = text.partition("\n\n")
    return " ".join(summary.split()), body.strip()


def _tokenizer() -> Path:
    from tempscale.models import packaged_minilm

    return packaged_minilm() / "tokenizer.json"
