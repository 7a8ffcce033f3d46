"""Execute the chapters again when what they import or draw has changed.

jupyter-cache compares a chapter's own cells only. Here the cache's path carries a hash of the package,
the lock file, the measured results and the look of figures, so that a change of any of them opens an empty cache.
"""

import hashlib
import shutil
from pathlib import Path

from repository import ROOT
from sphinx.application import Sphinx
from sphinx.config import Config

INPUTS = ("tempscale", "requirements.lock", "book/results", "book/matplotlibrc")


def key(root: Path) -> str:
    """Hash the names and bytes of every input file below `root`."""
    digest = hashlib.sha256()
    for path in _files(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _files(root: Path) -> list[Path]:
    found = []
    for name in INPUTS:
        path = root / name
        found += path.rglob("*") if path.is_dir() else [path]
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def use_keyed_cache(app: Sphinx, config: Config) -> None:
    """Point myst-nb at the cache of this key and remove those of other keys.

    The path is an `env` value: where it differs from the last build's, Sphinx reads every page again.
    """
    caches = Path(app.outdir).parent / ".jupyter_cache"
    current = caches / key(ROOT)
    config.nb_execution_cache_path = str(current)
    for stale in caches.glob("*"):
        if stale != current:
            shutil.rmtree(stale)
