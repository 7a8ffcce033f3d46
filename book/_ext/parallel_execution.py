"""Execute the chapters that changed side by side, one on each core, and say how far it is.

myst-nb executes them one after another, as it reads them. Here jupyter-cache runs each in a kernel of its own just
before, and myst-nb finds them in the cache. A chapter that fails is left to myst-nb, which reports it.
"""

import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from docutils.nodes import document
from forked_kernel import forked_kernels
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from myst_nb.core.read import is_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.display import status_iterator
from sphinx.util.logging import getLogger

READER = {"type": "plugin", "name": "myst_nb_md"}
# A profile of the book's own, so that a reader's start-up files change nothing. Below an error, kernels speak of their
# connection, which means nothing to a reader.
PROFILE = 'c.IPKernelApp.log_level = "ERROR"\n'
logger = getLogger(__name__)


def use_own_profile(app: Sphinx) -> None:
    """Have the kernels of this build, whoever starts them, read the book's profile; connect to `builder-inited`."""
    folder = Path(app.outdir).parent / ".ipython"
    config = folder / "profile_default" / "ipython_kernel_config.py"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(PROFILE, "utf-8")
    os.environ["IPYTHONDIR"] = str(folder)


def execute_changed(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Execute the notebooks among the pages to be read, if there are several; connect to `env-before-read-docs`."""
    # in the book's order, which happens to keep all cores busy to the end
    order = list(app.config.external_site_map)
    pages = [Path(env.doc2path(name)) for name in sorted(docnames, key=order.index)]
    notebooks = [page for page in pages if is_myst_markdown_notebook(page.read_text("utf-8"))]
    folder = app.config.nb_execution_cache_path
    cache = get_cache(folder)
    records = [cache.add_nb_to_project(str(page), read_data=READER) for page in notebooks]
    unexecuted = {record.uri for record in cache.list_unexecuted(filter_uris=[record.uri for record in records])}
    changed = [str(page) for page in pages if str(page) in unexecuted]
    if len(changed) < 2:
        return
    cores = os.cpu_count() or 1
    logger.info(
        "executing %d chapters, %d at a time; a chapter that has not changed is not executed again", len(changed), cores
    )
    with forked_kernels(Path(changed[0]).parent), ThreadPoolExecutor(cores) as pool:
        running = [pool.submit(execute, folder, page, app.config.nb_execution_timeout) for page in changed]
        done = status_iterator(
            as_completed(running), "executed... ", "purple", len(running), stringify_func=Future.result
        )
        for _ in done:
            pass


def execute(folder: str, page: str, timeout: int) -> str:
    """Execute one page into the cache in `folder`, for at most `timeout` seconds a cell, and return the page's name."""
    quiet = logging.getLogger("jupyter_cache.quiet")
    quiet.setLevel(logging.CRITICAL)
    load_executor("local-serial", get_cache(folder), quiet).run_and_cache(filter_uris=[page], timeout=timeout)
    return Path(page).stem


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
