"""Make the data and the static pictures of the book's explorers: `python book/_ext/explorer_data.py [NAME ...]`.

Each explorer NAME has a module `explorer_NAME.py` beside this one, whose `build(folder)` writes NAME.svg, and NAME.json
if the explorer needs data, into a folder.
"""

import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "_static" / "explorers"
PREFIX = "explorer_"


def names() -> list[str]:
    """The explorers that have a module."""
    own = Path(__file__)
    return sorted(path.stem.removeprefix(PREFIX) for path in own.parent.glob(f"{PREFIX}*.py") if path.stem != own.stem)


def build(chosen: list[str], folder: Path = FOLDER) -> None:
    """Let each of the chosen explorers, all by default, write its files."""
    if unknown := set(chosen) - set(names()):
        raise SystemExit(f"no explorer {', '.join(sorted(unknown))}: there are {', '.join(names())}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in chosen or names():
        importlib.import_module(f"{PREFIX}{name}").build(folder)
        print(f"{name}: {', '.join(f'{path.name} {path.stat().st_size} bytes' for path in folder.glob(f'{name}.*'))}")


if __name__ == "__main__":
    build(sys.argv[1:])
