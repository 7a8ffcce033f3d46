"""The table of what was executed to build the book.

    ```{executed}             a row for each chapter with code: when its cells ran, how long, and that none failed

It is known only when all chapters are read: see `late`.
"""

from datetime import UTC, datetime

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from reading_time import chapters, seconds
from sphinx.addnodes import pending_xref
from sphinx.environment import BuildEnvironment

HEAD = ("Chapter", "Executed", "Seconds", "Result")


def table(env: BuildEnvironment, page: str, _: str) -> nodes.table:
    """The chapters in the order of their numbers, and their sum."""
    numbers = {name: env.toc_secnumbers.get(name, {}).get("") for name in chapters(env)}
    rows: list[list[nodes.Node]] = []
    for name in sorted(numbers, key=lambda name: numbers[name] or (len(numbers) + 1,)):  # the appendix last
        data = NbMetadataCollector.get_exec_data(env, name)
        number = numbers[name]
        title = f"{number[0] if number else 'Appendix'}. {env.titles[name].astext()}"
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
