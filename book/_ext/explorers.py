"""Explorers: interactive figures of plain JavaScript, that work without kernel, network or library.

    ```{explorer} NAME
    :name: fig-label
    :alt: What the static picture shows.
    :preset: start=local, n=8
    The caption.
    ```

Its files are `book/_static/explorers/NAME.js`, which draws into the figure's `.explorer-root` and begins by
`book/_static/explorer.js`, as all do; `NAME.svg`, the picture
for print, for notebooks and where no script runs; and, if there is one, `NAME.json`, the data, which stand in the page
itself, so that it works from a folder too. `explorer_data.py` makes the last two. A file that is missing is a warning,
and so fails the build. `:preset:` says how the explorer opens on this page: the script finds it in the figure's
`data-preset`, and says which names and values it knows.
"""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from repository import ROOT
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger
from sphinx.util.osutil import relative_uri
from sphinx.writers.html5 import HTML5Translator

logger = getLogger(__name__)

STATIC = "explorers"
SHARED = "explorer.js"
FOLDER = ROOT / "book" / "_static" / STATIC
FRAME = 'class="explorer-root"'
PAIR = re.compile(r"\w+=\S+")


class explorer(nodes.figure):  # noqa: N801 (docutils calls a node's visitor by the name of its class)
    """A figure that is live: its caption, and the attributes `explorer` (the name), `alt`, `data` and `preset`."""


class ExplorerDirective(SphinxDirective):
    """```{explorer} NAME."""

    required_arguments = 1
    has_content = True
    option_spec = dict.fromkeys(("name", "alt", "preset"), directives.unchanged_required)

    def run(self) -> list[nodes.Node]:
        """Return the figure, or nothing, and a warning, if one of its files is missing."""
        name = self.arguments[0]
        if missing := [suffix for suffix in (".js", ".svg") if not (FOLDER / name).with_suffix(suffix).is_file()]:
            message = "explorer %r has no file %s in book/_static/explorers: correct its name, or run make explorers"
            logger.warning(message, name, " and no ".join(name + end for end in missing), location=self.get_location())
            return []
        if "alt" not in self.options:
            raise self.error(f"explorer {name!r} has no :alt:, which says what its static picture shows")
        pairs = [pair.strip() for pair in self.options.get("preset", "").split(",") if pair.strip()]
        if wrong := [pair for pair in pairs if not PAIR.fullmatch(pair)]:
            raise self.error(
                f"explorer {name!r} has the preset {wrong[0]!r}: write name=value, with commas between them"
            )
        figure = explorer("", explorer=name, alt=self.options["alt"], data=self._data(name), classes=["explorer"])
        figure["preset"] = ",".join(pairs)
        self.set_source_info(figure)
        figure += self._caption(name)
        self.add_name(figure)
        return [figure]

    def _data(self, name: str) -> str:
        """The text of its data, "" without any; the page is built again when they change."""
        path = FOLDER / f"{name}.json"
        if not path.is_file():  # for Sphinx, a dependency that is not there has always changed
            return ""
        self.env.note_dependency(str(path))
        return json.dumps(json.loads(path.read_text("utf-8")), separators=(",", ":"))

    def _caption(self, name: str) -> nodes.caption:
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        if len(parsed) != 1 or not isinstance(parsed[0], nodes.paragraph):
            raise self.error(f"the caption of explorer {name!r} must be one paragraph")
        return nodes.caption(parsed[0].rawsource, "", *parsed[0].children)


def visit(self: HTML5Translator, node: explorer) -> None:
    """Open the figure: the root for the script, the data, and the picture where no script runs or on paper."""
    name = node["explorer"]
    page = self.builder.get_target_uri(self.builder.current_docname)
    picture = relative_uri(page, f"_static/{STATIC}/{name}.svg")
    still = f'<img class="explorer-still" src="{picture}" alt="{escape(node["alt"])}">'
    attributes = {"data-explorer": name} | ({"data-preset": node["preset"]} if node["preset"] else {})
    self.body.append(self.starttag(node, "figure", **attributes))
    self.body.append(f"<div {FRAME}></div>\n")
    if node["data"]:
        data = node["data"].replace("<", r"\u003c")  # no text of the data can end the script
        self.body.append(f'<script type="application/json">{data}</script>\n')
    self.body.append(f'<noscript>{still}</noscript>\n<div class="explorer-print">{still}</div>\n')


def depart(self: HTML5Translator, node: explorer) -> None:
    """Close the caption and the figure."""
    self.body.append("</figcaption>\n</figure>\n")


def load_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Give a page the scripts of its explorers and their style sheet, and no other page; connect to `html-page-context`."""
    names = sorted({node["explorer"] for node in doctree.findall(explorer)}) if doctree else []
    framed = doctree and any(FRAME in html.astext() for html in doctree.findall(nodes.raw))  # a cell's slider
    if names:
        app.add_js_file(SHARED, loading_method="defer", priority=400)  # before those that use it
    for name in names:
        app.add_js_file(f"{STATIC}/{name}.js", loading_method="defer")
    if names or framed:
        app.add_css_file(f"{STATIC}/explorers.css")


def files(name: str) -> list[Path]:
    """What a page loads for one explorer: its script, the shared one, and its data if it has any."""
    return [path for path in (FOLDER / f"{name}.js", FOLDER.parent / SHARED, FOLDER / f"{name}.json") if path.is_file()]


def register(app: Sphinx) -> None:
    """Add the directive and its node, which is numbered among the figures."""
    app.add_enumerable_node(explorer, "figure", html=(visit, depart))
    app.add_directive("explorer", ExplorerDirective)
    app.connect("html-page-context", load_scripts)
