"""Processes that begin with the libraries: forked from one that has imported them, and that does nothing else."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

# They take seconds to import. What is tested is not among them, and one that is not installed is left out.
LIBRARIES = [
    "sentence_transformers",
    "mteb",
    "datasets",
    "scipy.stats",
    "scipy.ndimage",
    "matplotlib.pyplot",
    "typer.rich_utils",
    "jupyter_book.sphinx",
    "myst_nb.sphinx_ext",
    "ipykernel.kernelapp",
    "sphinx_book_theme",
    "sphinx_design.extension",
    "sphinx_exercise",
    "sphinx_proof",
    "sphinxcontrib.bibtex",
    "sphinx.builders.html",
    "sphinx.builders.latex",
    "sphinx.domains.cpp",
    "sphinx.domains.python",
    "fontTools.subset",
]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(LIBRARIES)


def run_program(program, *arguments, cwd=None, timeout=600):
    """Run a program, code or the path of a file, as `python` does; an exit status below 0 is that of a signal.

    Only the interpreter's own end is another: an interruption that nobody catches gives the status 1.
    """
    with start_program(program, *arguments, cwd=cwd) as process:
        return process.finish(timeout)


@contextmanager
def start_program(program, *arguments, cwd=None):
    """Start a program that goes on by itself; if it still runs at the end, it is killed."""
    with tempfile.TemporaryDirectory() as folder:
        process = Process(program, arguments, cwd, Path(folder))
        try:
            yield process
        finally:
            process.kill()


class Process:
    """A process that writes what it prints into files."""

    def __init__(self, program, arguments, cwd, folder):
        if not isinstance(program, Path):
            code, program = program, folder / "program.py"
            program.write_text(code)
        self.command = [str(program), *map(str, arguments)]
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        # Made here, since a process may be killed before it has begun.
        self.stdout.touch()
        self.stderr.touch()
        given = (self.command, cwd or Path.cwd(), dict(os.environ), self.stdout, self.stderr)
        self._process = FORKS.Process(target=_begin, args=given)
        self._process.start()
        self.pid = self._process.pid

    def wait_for(self, line, timeout=60):
        """Wait until it has printed a line."""
        last = time.monotonic() + timeout
        while line not in self.stdout.read_text().splitlines():
            assert self._process.is_alive(), self.stderr.read_text()
            assert time.monotonic() < last, self.stderr.read_text()
            time.sleep(0.01)

    def finish(self, timeout=600):
        """Wait for its end; return what subprocess.run does."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.command, timeout, self.stdout.read_text(), self.stderr.read_text())
        printed = self.stdout.read_text(), self.stderr.read_text()
        return subprocess.CompletedProcess(self.command, self._process.exitcode, *printed)

    def kill(self):
        """End it at once, if it still runs."""
        self._process.kill()
        self._process.join()


def _begin(command, cwd, environment, stdout, stderr):
    """Become the program: all that a new interpreter would be given is given here."""
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if "datasets" in sys.modules and "HF_DATASETS_CACHE" in environment:  # it reads that when it is imported
        sys.modules["datasets"].config.HF_DATASETS_CACHE = Path(environment["HF_DATASETS_CACHE"])
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
