"""Run the notebooks as a reader does who has nothing but them: each alone, from the installed wheel, in an empty folder.

`make notebooks-run` builds the wheel, makes a new environment with what the notebook's own first cell installs, and
gives every notebook a kernel of its own there, from which no host can be reached: neither the repository nor a hub.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from pathlib import Path
from typing import NamedTuple

from repository import ROOT

VERSIONS = {path.stem: path for path in (ROOT / "tests").glob("*.txt")}  # oldest and colab
EXECUTE = """
import sys, nbclient, nbformat
nbclient.NotebookClient(nbformat.read(sys.argv[1], 4), timeout=900, kernel_name="python3").execute()
"""
NOWHERE = "http://127.0.0.1:9"  # the port that discards: every request by way of it fails at once


class Run(NamedTuple):
    """How one notebook went; `error` is empty if it ran to its end."""

    name: str
    seconds: float
    error: str


def names() -> list[str]:
    """The notebooks, in the order of the alphabet."""
    return sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))


def todays(count: int, day: date) -> list[str]:
    """Some of the notebooks: others every day, until each has had its turn."""
    every = names()
    first = day.toordinal() * count
    return [every[(first + i) % len(every)] for i in range(count)]


def set_up(name: str) -> str:
    """The notebook's first cell of code."""
    cells = json.loads((ROOT / "book" / f"{name}.ipynb").read_text("utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def extras(name: str) -> str:
    """What the notebook's own first cell installs the package with, such as "offline,eval"."""
    return re.search(r'%pip install .*"tempscale\[([a-z,]+)\] @ git\+', set_up(name)).group(1)


def install(python: Path, folder: Path, wanted: str, versions: str | None) -> None:
    """Install the wheel of this tree with these extras, and what runs a notebook; newest versions unless told otherwise."""
    pip = [python, "-m", "pip", "--quiet"]
    if not list(folder.glob("*.whl")):
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    constraint = ["torch==2.13.0"]
    if versions:
        allowed = VERSIONS[versions].read_text("utf-8")
        if "eval" in wanted:  # mteb wants a newer SciPy; and new pyarrow NumPy 2, unknown to pip
            allowed = allowed.replace("scipy==1.11.4", "scipy==1.14.0") + "\npyarrow<26\n"
        constraints = folder / "constraints.txt"
        constraints.write_text(allowed, "utf-8")
        constraint = ["--constraint", constraints]
    pip = [*pip, "install", "--no-compile"]  # Python compiles what it imports
    subprocess.run([*pip, f"{wheel}[{wanted}]", "ipykernel", "nbclient", *constraint], check=True)


def get_texts(python: Path, name: str) -> None:
    """Download what the notebook's first cell does, which finds it in its place when it has no network."""
    wanted = set_up(name).partition("from tempscale.notebook")
    subprocess.run([python, "-c", "".join(wanted[1:])], check=True)


def run(python: Path, name: str, threads: int) -> Run:
    """Run one notebook."""
    with tempfile.TemporaryDirectory() as home:
        empty = Path(home, "empty")
        empty.mkdir()
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR") if key in os.environ}
        # a home of its own: no kernel but the environment's, and nothing that was downloaded earlier
        alone = {"HOME": home, "JUPYTER_PATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
        closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
        start = time.perf_counter()
        done = subprocess.run(
            [python, "-c", EXECUTE, ROOT / "book" / f"{name}.ipynb"],
            cwd=empty,
            env=kept | alone | closed | {"no_proxy": "127.0.0.1,localhost"},
            capture_output=True,
            text=True,
            check=False,
        )
    error = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).strip() if done.returncode else ""
    return Run(name, time.perf_counter() - start, error)


def run_all(chosen: Sequence[str], python: str, jobs: int, versions: str | None = None) -> list[Run]:
    """Run notebooks in a new environment, as many side by side as `jobs`, and print how each went as it ends.

    Those that ask for fewest extras come first; the environment then gets what the others ask for as well.
    """
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "venv")
        subprocess.run([python, "-m", "venv", place], check=True)
        inside = place / "bin" / "python"
        for wanted in sorted({extras(name) for name in chosen}, key=lambda text: text.count(",")):
            install(inside, Path(folder), wanted, versions)
            group = [name for name in chosen if extras(name) == wanted]
            for name in group:
                get_texts(inside, name)
            threads = max(1, (os.cpu_count() or 1) // jobs)
            with ThreadPoolExecutor(jobs) as pool:
                for future in as_completed([pool.submit(run, inside, name, threads) for name in group]):
                    runs.append(future.result())
                    print(line(runs[-1]), flush=True)
    return runs


def line(one: Run) -> str:
    """One row of the table: the notebook, its seconds, and "passed" or what the error says first."""
    said = re.findall(r"^[\w.]*(?:Error|Exception|Interrupt|Iteration|Warning|Timeout)\b.*", one.error, re.M)
    result = (said[-1] if said else one.error.splitlines()[-1]) if one.error else "passed"
    return f"{one.name:<20} {one.seconds:>6.0f} s  {result}"


def main() -> int:
    """Run those that are asked for; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebooks", nargs="*", metavar="NAME", help=f"one or more of {', '.join(names())}; all")
    parser.add_argument("--python", default=sys.executable, help="the Python to make the environment with")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks side by side")
    parser.add_argument(
        "--versions", choices=sorted(VERSIONS), help="those that a file in tests names; else the newest"
    )
    parser.add_argument("--today", type=int, metavar="N", help="N notebooks, others every day")
    given = parser.parse_args()
    if unknown := set(given.notebooks) - set(names()):
        parser.error(f"no notebook {', '.join(sorted(unknown))}: there are {', '.join(names())}")
    chosen = todays(given.today, date.today()) if given.today else given.notebooks or names()
    runs = run_all(chosen, given.python, given.jobs, given.versions)
    failed = [one for one in runs if one.error]
    for one in failed:
        print(f"\n{one.name}\n{one.error}", file=sys.stderr)
    print(f"{len(runs) - len(failed)} of {len(runs)} notebooks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
