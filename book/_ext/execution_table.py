"""The table of what was executed to build the book.

    ```{executed}             a row for each chapter with code: when its cells ran, how long, and that none failed

It is filled in when all chapters are read, because only then it is known.
"""

from datetime import UTC, datetime

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from reading_time import chapters, seconds
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

HEAD = ("Chapter", "Executed", "Seconds", "Result")


class Executed(nodes.General, nodes.Element):
    """The place of the table."""


class ExecutedDirective(SphinxDirective):
    """```{executed}."""

    def run(self) -> list[nodes.Node]:
        """Leave the place, on a page that is written again when a chapter was executed."""
        self.env.metadata[self.env.docname]["late"] = True
        return [Executed()]


class FillTable(SphinxPostTransform):
    """Put the table into its place."""

    default_priority = 8  # before references are resolved

    def run(self, **_: object) -> None:
        """Fill every place of this page."""
        for place in list(self.document.findall(Executed)):
            place.replace_self(table(self.env, self.env.docname))


def table(env: BuildEnvironment, page: str) -> nodes.table:
    """The chapters in the order of their numbers, and their sum."""
    numbers = {name: env.toc_secnumbers.get(name, {}).get("", (0,)) for name in chapters(env)}
    rows: list[list[nodes.Node]] = []
    for name in sorted(numbers, key=lambda name: numbers[name]):
        data = NbMetadataCollector.get_exec_data(env, name)
        title = f"{numbers[name][0]}. {env.titles[name].astext()}"
        link = pending_xref(
            "", nodes.inline(text=title), refdoc=page, reftarget=f"/{name}", reftype="doc", refdomain="std",
            refexplicit=True, refwarn=True,
        )  # fmt: skip
        when = datetime.fromtimestamp(data["mtime"], UTC).strftime("%Y-%m-%d")
        result = "ok" if data["succeeded"] else "failed"
        rows.append([link, *map(nodes.Text, (when, f"{seconds(env, name):.0f}", result))])
    total = sum(seconds(env, name) for name in numbers)
    rows.append([nodes.strong(text="all"), nodes.Text(""), nodes.strong(text=f"{total:.0f}"), nodes.Text("")])
    group = nodes.tgroup("", *[nodes.colspec(colwidth=1) for _ in HEAD], cols=len(HEAD))
    group += nodes.thead("", _row([nodes.Text(text) for text in HEAD]))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group, classes=["colwidths-auto"])


def _row(cells: list[nodes.Node]) -> nodes.row:
    return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells])


def register(app: Sphinx) -> None:
    """Add the directive."""
    app.add_node(Executed)
    app.add_directive("executed", ExecutedDirective)
    app.add_post_transform(FillTable)
