"""A book of one page, built with the real configuration, to see what fails a build."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text, "utf-8")

    @contextmanager
    def building(self) -> Iterator[subprocess.Popen[str]]:
        """A build that runs, and is killed if nobody waited for its end."""
        with subprocess.Popen(
            [Path(sys.executable).with_name("jupyter-book"), "build", ".", "-W", "-n", "--keep-going"],
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
        with self.building() as process:
            said = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, *said)
