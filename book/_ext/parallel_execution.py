"""Execute the chapters that changed side by side, one on each core.

myst-nb executes them one after another, as it reads them. Here jupyter-cache's own parallel executor fills the cache
just before, and myst-nb finds them there. A chapter that fails is left to myst-nb, which reports it.
"""

import logging
import os
from pathlib import Path

import nbformat
from docutils.nodes import document
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from myst_nb.core.read import is_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

READER = {"type": "plugin", "name": "myst_nb_md"}
LOGGER = logging.getLogger(__name__)
LOGGER.setLevel(logging.INFO)  # the executor then says which chapter it is at


def execute_changed(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Execute the notebooks among the pages to be read, if there are several; connect to `env-before-read-docs`."""
    pages = [Path(env.doc2path(name)) for name in docnames]
    notebooks = [page for page in pages if is_myst_markdown_notebook(page.read_text("utf-8"))]
    cache = get_cache(app.config.nb_execution_cache_path)
    records = [cache.add_nb_to_project(str(page), read_data=READER) for page in notebooks]
    changed = [record.uri for record in cache.list_unexecuted(filter_uris=[record.uri for record in records])]
    if len(changed) < 2:
        return
    threads = os.environ.get("OMP_NUM_THREADS")
    # The processes share the cores: more threads than cores wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        executor = load_executor("local-parallel", cache, LOGGER)
        executor.run_and_cache(filter_uris=changed, timeout=app.config.nb_execution_timeout)
    finally:
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


def keep_outputs(app: Sphinx, doctree: document) -> None:
    """Give the notebook that readers download its outputs; connect to `doctree-read`.

    myst-nb writes them if it executed the notebook, and leaves them out if it found it in the cache.
    """
    name = app.env.docname
    if is_myst_markdown_notebook(Path(app.env.doc2path(name)).read_text("utf-8")):
        path = Path(app.outdir).parent / "jupyter_execute" / f"{name}.ipynb"
        cache = get_cache(app.config.nb_execution_cache_path)
        _, executed = cache.merge_match_into_notebook(nbformat.read(path, as_version=4))
        nbformat.write(executed, path)
