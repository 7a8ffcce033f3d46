"""A book of one page, built with the real configuration, to see what fails a build."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.process import run_program

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["jupyter-book", "build", ".", "-W", "-n", "--keep-going"]
# The command, where what the book imports is the tiny book's.
BUILD = f"""
import os, sys
if __name__ == "__main__":  # kernels import it, too, under another name
    os.environ["PYTHONPATH"], *sys.argv = sys.argv[1:]
    sys.path[:] = [os.environ["PYTHONPATH"], *(entry for entry in sys.path if entry != {str(ROOT / "book" / "_ext")!r})]
    from jupyter_book.cli.main import main
    main()
"""
# The head of a chapter with cells.
FRONT = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
---
"""


class TinyBook:
    """A folder with one chapter, one package file and one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("_config.yml", "pyproject.toml", "book/_ext", "book/_static", "book/references.bib"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            (folder / name).parent.mkdir(exist_ok=True)
            copy(ROOT / name, folder / name)
        self.write("_toc.yml", "format: jb-book\nroot: book/index\n")
        self.write("requirements.lock", "")
        self.write("tempscale/__init__.py", '"""A package."""\n')
        self.write("tests/test_toy.py", "def test_true():\n    assert True\n")
        # what the kernels of chapters share, and no page here needs: seconds of importing
        self.write("pandas.py", "")
        self.write("sentence_transformers.py", "")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text, "utf-8")

    @contextmanager
    def building(self) -> Iterator[subprocess.Popen[str]]:
        """A build that runs, and is killed if nobody waited for its end."""
        with subprocess.Popen(
            [Path(sys.executable).with_name(COMMAND[0]), *COMMAND[1:]],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def build(self) -> subprocess.CompletedProcess[str]:
        """Build, and wait for the end."""
        return run_program(BUILD, self.folder, *COMMAND, cwd=self.folder, timeout=120)
