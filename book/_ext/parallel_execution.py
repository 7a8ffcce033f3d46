"""Execute the chapters that changed side by side, one on each core, while other pages are read.

myst-nb executes them one after another, as it reads them. Here jupyter-cache runs each in a kernel of its own, the
reading of a chapter waits for it, and myst-nb finds it in the cache. A chapter that fails is left to myst-nb, which
reports it.
"""

import logging
import os
from multiprocessing.pool import ThreadPool
from pathlib import Path

import nbformat
from docutils.nodes import document
from forked_kernel import fork_kernels
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from myst_nb.core.read import is_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
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
    """Begin to execute the notebooks among the pages to be read, if there are several; connect to `env-before-read-docs`.

    Pages without cells are read first, then the chapters in the book's order, in which they are executed.
    """
    order = list(app.config.external_site_map)
    pages = {name: Path(env.doc2path(name)) for name in sorted(docnames, key=order.index)}
    notebooks = {name: page for name, page in pages.items() if is_myst_markdown_notebook(page.read_text("utf-8"))}
    docnames.sort(key=lambda name: (name in notebooks, order.index(name)))
    folder = app.config.nb_execution_cache_path
    cache = get_cache(folder)
    records = [cache.add_nb_to_project(str(page), read_data=READER) for page in notebooks.values()]
    unexecuted = {record.uri for record in cache.list_unexecuted(filter_uris=[record.uri for record in records])}
    changed = {name: str(page) for name, page in notebooks.items() if str(page) in unexecuted}
    if len(changed) < 2:
        return
    cores = os.cpu_count() or 1
    logger.info(
        "executing %d chapters, %d at a time; each is read after that, and not executed again until it changes",
        len(changed),
        cores,
    )
    os.environ["OMP_NUM_THREADS"] = "1"  # more threads than cores wait for each other
    fork_kernels(Path(env.srcdir, "book"))
    pool = ThreadPool(cores)  # of daemons: whatever ends the build ends them and their kernels
    timeout = app.config.nb_execution_timeout
    running = {name: pool.apply_async(execute, (folder, page, timeout)) for name, page in changed.items()}
    pool.close()
    app.connect("source-read", lambda app, name, source: running[name].get() if name in running else None)


def execute(folder: str, page: str, timeout: int) -> None:
    """Execute one page into the cache in `folder`, for at most `timeout` seconds a cell."""
    quiet = logging.getLogger("jupyter_cache.quiet")
    quiet.setLevel(logging.CRITICAL)
    load_executor("local-serial", get_cache(folder), quiet).run_and_cache(filter_uris=[page], timeout=timeout)


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
