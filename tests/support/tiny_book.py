"""A book of one page, built with the real configuration, to see what fails a build."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["jupyter-book", "build", ".", "-W", "-n", "--keep-going"]
# What every build imports takes most of its time: they are forks of one process that has imported it.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "fontTools.subset",
        "ipykernel.kernelapp",
        "jupyter_book.cli.main",
        "jupyter_book.sphinx",
        "myst_nb.sphinx_ext",
        "scipy.ndimage",
        "sphinx.builders.html",
        "sphinx.builders.latex",
        "sphinx.domains.cpp",
        "sphinx.domains.python",
        "sphinx_book_theme",
        "sphinx_design.extension",
        "sphinx_exercise",
        "sphinx_proof",
        "sphinxcontrib.bibtex",
    ]
)
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
        process = FORKS.Process(target=_command, args=(self.folder,))
        process.start()
        process.join(timeout=120)
        ended = process.exitcode
        process.kill()
        assert ended is not None, "the build takes too long"
        said = [(self.folder / name).read_text("utf-8") for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(COMMAND, ended, *said)


def _command(folder: Path) -> None:
    """Be the command that builds, as `TinyBook.building` starts it."""
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(ROOT / "book" / "_ext"))]
    sys.argv = COMMAND
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())

    from jupyter_book.cli.main import main  # pytest's own process needs none of it

    main()
