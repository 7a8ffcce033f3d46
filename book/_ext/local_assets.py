"""Pages that ask nothing of any other host: MathJax from the installed package, no Thebe, nothing remote."""

import shutil
from importlib.metadata import files
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

MATHJAX = "mathjax/tex-mml-chtml.js"
FONTS = "mathjax/output/chtml/fonts/woff-v2"
PACKAGE = "sphinx-mathjax-offline"  # only its data files are used; it is not a Sphinx extension here


def use_local_mathjax(app: Sphinx, config: Config) -> None:
    """Make every page with maths load the copied script."""
    config.mathjax_path = MATHJAX


def copy_mathjax(app: Sphinx) -> None:
    """Copy the script and its fonts into the built site; neither is ever committed."""
    if app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for file in files(PACKAGE) or ():
        inside = file.as_posix().partition("static/")[2]
        if inside == MATHJAX or (inside.startswith(FONTS) and inside.endswith(".woff")):
            target = static / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target)


def remove_thebe(app: Sphinx, config: Config) -> None:
    """Disconnect sphinx-thebe, which Jupyter Book always loads and which declares its script twice."""
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if "thebe" not in entry[0]]


def drop_remote_assets(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Keep only the scripts and style sheets that the site itself carries."""
    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context[kind] if "//" not in str(asset.filename or "")]
