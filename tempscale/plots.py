"""One look for all figures, those of the book and those of the reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Okabe and Ito's palette: eight colours that people with any colour vision tell apart. Black comes last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: Any = {
    "axes.grid": True,
    "axes.prop_cycle": f"cycler('color', {list(PALETTE)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "figure.figsize": (7.0, 3.6),
    "font.size": 10,
    "grid.alpha": 0.25,
    "image.cmap": "viridis",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.bbox": "tight",
}


def use_style() -> None:
    """Set the book's look for matplotlib figures, from here on.

    >>> use_style()
    >>> import matplotlib
    >>> matplotlib.rcParams["image.cmap"]
    'viridis'
    """
    import matplotlib as mpl

    mpl.rcParams.update(STYLE)


@contextmanager
def style() -> Iterator[None]:
    """Draw in the book's look in a with block, or in a function decorated with `@style()`; the settings come back after it.

    >>> import matplotlib
    >>> with matplotlib.rc_context({"lines.linewidth": 5}):
    ...     with style():
    ...         inside = matplotlib.rcParams["lines.linewidth"]
    ...     inside, matplotlib.rcParams["lines.linewidth"]
    (1.8, 5.0)
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield
