"""What the book's chapters share: numbers for the prose, measured results, texts, and a slider that needs no kernel."""

import base64
import importlib.resources
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tempscale.files import new_folder
from tempscale.plots import PALETTE, use_style

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

# The look is that of `plots`; notebooks saved with version 0.1 import it from here.
__all__ = ["PALETTE", "docstrings_of", "glue", "glue_interval", "in_points", "read_results", "slider", "use_style"]


def glue(**values: float | int | str) -> None:
    """Print named values, and hand them to the book's prose, where {glue:text}`name` shows them.

    Works without the book, too: in a plain notebook or script it only prints.

    >>> glue(n_texts=3)
    n_texts = 3
    """
    for name, value in values.items():
        plain = value.item() if hasattr(value, "item") else value
        print(f"{name} = {plain:.6g}" if isinstance(plain, float) else f"{name} = {plain}")
        _record(name, repr(plain))


def glue_interval(**intervals: Iterable[float]) -> None:
    """Hand estimates and both ends of their intervals to the prose, as name, name_low and name_high.

    >>> glue_interval(gain=(0.5, -0.25, 1.25))
    gain = 0.5
    gain_low = -0.25
    gain_high = 1.25
    """
    for name, values in intervals.items():
        glue(**{f"{name}{end}": value for end, value in zip(("", "_low", "_high"), values, strict=True)})


def in_points(row: Any, digits: int = 2) -> str:
    """Return the difference, low and high of a row, which are points already, as a reader wants them.

    >>> from types import SimpleNamespace
    >>> in_points(SimpleNamespace(difference=0.263, low=-0.1, high=1), digits=1)
    '+0.3 [-0.1, +1.0]'
    """
    return "{:+.{n}f} [{:+.{n}f}, {:+.{n}f}]".format(row.difference, row.low, row.high, n=digits)


def docstrings_of(*packages: str) -> None:
    """Have `tempscale.docstrings` read these versions, so that a notebook has the same texts wherever it runs.

    A version that is not the installed one is downloaded once, to the folder for temporary files. It is read and never
    imported. Where that fails, a sentence says so, and the installed version is read.

    Args:
        *packages: requirements such as "numpy==2.4.6".

    >>> docstrings_of(f"numpy=={np.__version__}")  # nothing to do
    """
    folders = []
    for package in packages:
        name, _, wanted = package.partition("==")
        installed = _installed(name)
        folder = Path(tempfile.gettempdir(), f"tempscale-docstrings-{name}-{wanted}")
        if installed == wanted:
            continue
        if not _is_whole(folder):
            print(f"downloading {package}, whose docstrings are the texts; it is read and not imported")
            try:
                _download(package, folder)
            except (OSError, subprocess.CalledProcessError) as error:
                if not _is_whole(folder):  # else another process was faster
                    said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
                    print(
                        f"{package} could not be downloaded ({said}): the texts are those of {name} {installed}, numbers "
                        "differ a little, and an `assert` may fail; leave it out then, and go on"
                        if installed
                        else f"{package} could not be downloaded ({said}), and no other version is here: pip install {name}"
                    )
                    continue
        folders.append(str(folder))
    before = os.environ.get("TEMPSCALE_DOCSTRINGS", "").split(os.pathsep)
    os.environ["TEMPSCALE_DOCSTRINGS"] = os.pathsep.join(dict.fromkeys(filter(None, [*folders, *before])))


def _is_whole(folder: Path) -> bool:
    """Whether there is a package in a folder, which may have been emptied as temporary."""
    return any(folder.glob("*/__init__.py"))


def _download(package: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    # Python files are the same for every version of Python, which may be too new for a wheel of its own.
    options = ["--quiet", "--no-user", "--no-deps", "--no-compile", "--only-binary=:all:", "--python-version=3.11"]
    with new_folder(folder) as unfinished:
        pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(unfinished), package]
        subprocess.run(pip, check=True, capture_output=True, text=True)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def read_results(name: str) -> "pd.DataFrame":
    """Return a table of measured results: the book's own file, or, in a notebook by itself, the package's copy of it.

    Args:
        name: name of a CSV file in book/results, which begins with comment lines that say what it was made with.

    Raises:
        FileNotFoundError: neither is there.
    """
    import pandas as pd

    package = Path(__file__).parent
    archive = package / "results.zip"  # in an installed wheel: hatch_build.py puts it there
    for folder in ("results", package.parent / "book" / "results"):
        if (file := Path(folder, name)).is_file():
            return pd.read_csv(file, comment="#", low_memory=False)
    if archive.is_file():
        with zipfile.ZipFile(archive) as tables:
            if name in tables.namelist():
                with tables.open(name) as table:
                    return pd.read_csv(table, comment="#", low_memory=False)
    raise FileNotFoundError(
        f"no table {name!r} of measured results, neither in {Path('results').resolve()} nor in the installed package: "
        "install the version of tempscale that this notebook belongs to"
    )


def slider(
    name: str,
    label: str,
    values: Sequence[float],
    panels: Mapping[str, npt.NDArray[np.floating]],
    readouts: Mapping[str, Sequence[float]],
) -> "HTML":
    """Return a slider over precomputed heat maps: one self-contained piece of HTML, without kernel or network.

    Args:
        name: identifier of letters, digits and hyphens, unique on the page.
        label: name of what the slider moves, such as "temperature".
        values: (t,) positions of the slider.
        panels: (t, rows, columns) non-negative values, by title; colours run from 0 to the panel's maximum.
        readouts: (t,) numbers to show below, by title.

    Raises:
        ValueError: a panel or readout whose first axis is not as long as `values`, or negative or non-finite values.

    >>> html = slider("demo", "temperature", [0.5, 1.0], {"A": np.ones((2, 3, 3))}, {"entropy": [0.1, 0.2]})
    >>> "temperature" in html.data
    True
    """
    from IPython.display import HTML
    from matplotlib import colormaps

    lengths = {title: len(frames) for title, frames in panels.items()}
    lengths |= {title: len(numbers) for title, numbers in readouts.items()}
    for title, length in lengths.items():
        if length != len(values):
            raise ValueError(f"{title!r} has {length} frames for {len(values)} slider positions: give one for each")
    data = {
        "values": [float(value) for value in values],
        "colours": _base64(np.asarray(colormaps["viridis"](np.arange(256))[:, :3] * 255)),
        "panels": [
            {"title": title, "rows": x.shape[1], "columns": x.shape[2], "pixels": _base64(_to_bytes(title, x))}
            for title, x in panels.items()
        ],
        "readouts": [{"title": title, "numbers": [float(x) for x in series]} for title, series in readouts.items()],
    }
    script = importlib.resources.files("tempscale").joinpath("slider.js").read_text("utf-8")
    figures = "".join(
        f'<div class="panel"><canvas role="img" aria-label="{escape(title)}"></canvas><div>{escape(title)}</div></div>'
        for title in panels
    )
    terms = "".join(f"<dt>{escape(title)}</dt><dd><output></output></dd>" for title in readouts)
    return HTML(
        f'<div class="tempscale-slider" id="{escape(name)}">'
        f'<p><label for="{escape(name)}-input">{escape(label)}</label> '
        f'<input id="{escape(name)}-input" type="range" min="0" max="{len(values) - 1}" step="1"> '
        f'<output for="{escape(name)}-input"></output></p>'
        f'<div class="panels">{figures}</div><dl>{terms}</dl></div>'
        f"<script>{script}({json.dumps(name)}, {json.dumps(data)});</script>"
    )


def _record(name: str, text: str) -> None:
    """Leave the value in the notebook's output, in the form that the book's builder collects."""
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ModuleNotFoundError:
        return
    if get_ipython() is None:
        return
    prefix = "application/papermill.record/"
    display({f"{prefix}text/plain": text}, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": prefix}})


def _to_bytes(title: str, frames: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the frames scaled to 0 ... 255."""
    if not np.isfinite(frames).all() or frames.min() < 0:
        raise ValueError(f"{title!r} must hold finite values >= 0: its smallest is {frames.min():g}")
    return frames * (255 / (frames.max() or 1.0))


def _base64(values: npt.NDArray[np.floating]) -> str:
    return base64.b64encode(values.round().astype(np.uint8).tobytes()).decode("ascii")
