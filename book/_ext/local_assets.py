"""Pages that ask nothing of any other host, and load what they use: MathJax in parts, no Thebe, nothing remote."""

import shutil
from importlib.metadata import files
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

MATHJAX = "mathjax/startup.js"
# TeX in, HTML out, and MathML for screen readers. The bundles of MathJax have its menu, too, a third of their weight,
# most of whose entries need files that are not here.
PARTS = ("input/tex", "output/chtml", "a11y/assistive-mml")
# what the parts themselves load
SCRIPTS = {MATHJAX, *(f"mathjax/{part}.js" for part in ("core", *PARTS, "output/chtml/fonts/tex"))}
FONTS = "mathjax/output/chtml/fonts/woff-v2"
PACKAGE = "sphinx-mathjax-offline"  # only its data files are used; it is not a Sphinx extension here


def use_local_mathjax(app: Sphinx, config: Config) -> None:
    """Make every page with maths load the copied scripts."""
    config.mathjax_path = MATHJAX
    config.mathjax3_config = {"loader": {"load": list(PARTS)}}


def copy_mathjax(app: Sphinx) -> None:
    """Copy the scripts and their fonts into the built site; neither is ever committed."""
    if app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for file in files(PACKAGE) or ():
        inside = file.as_posix().partition("static/")[2]
        if inside in SCRIPTS or (inside.startswith(FONTS) and inside.endswith(".woff")):
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


def drop_idle_mathjax(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Keep MathJax only where there is a formula: the source of a page may have some that the page does not show."""
    if 'class="math' not in context.get("body", ""):
        context["script_files"] = [asset for asset in context["script_files"] if MATHJAX not in str(asset.filename)]
