"""Arrays in files."""

from pathlib import Path

import numpy as np


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file; the file is closed, which that of np.load is not before it is forgotten."""
    with np.load(path) as opened:
        return dict(opened)
