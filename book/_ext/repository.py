"""Where the repository lives, read from the one place that says it: pyproject.toml."""

import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BRANCH = "main"


@cache
def _url(name: str) -> str:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    return urls[name].rstrip("/")


def address() -> str:
    """The repository's address, `[project.urls] Repository`, with no slash at its end."""
    return _url("Repository")


def book_url() -> str:
    """Where the built pages are published, `[project.urls] Documentation`."""
    return _url("Documentation")


def install() -> str:
    """The command that installs the package, as a block of Markdown."""
    return f'```bash\npip install \\\n  "tempscale[offline,eval] @ git+{address()}"\n```'


def source_url(path: str) -> str:
    """The page that shows one file: `source_url("tests/spectrum/test_signals.py")`."""
    return f"{address()}/blob/{BRANCH}/{path}"


def raw_url(path: str) -> str:
    """The file itself, for images: Colab does not have the repository's folders."""
    return f"{address()}/raw/{BRANCH}/{path}"


def colab_url(path: str) -> str:
    """The link that opens a notebook of the repository on Colab."""
    return source_url(path).replace("https://github.com/", "https://colab.research.google.com/github/", 1)
