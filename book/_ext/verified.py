"""The role that ties a statement to the test which checks it.

{verified}`tests/spectrum/test_signals.py::test_parseval` becomes "✓ verified numerically by test_parseval", linked to
the test's line. A test that does not exist is a warning, and so fails the build. {marks}`marks` counts them.
"""

import ast
from functools import cache
from pathlib import Path

from docutils import nodes
from repository import ROOT, source_url
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole
from sphinx.util.logging import getLogger

logger = getLogger(__name__)


def line_of(path: Path, test: str) -> int | None:
    """The line where the test function begins, or None if the file has no such test.

    `line_of(ROOT / "tests/spectrum/test_signals.py", "test_parseval")`
    """
    if not test.startswith("test_") or not path.is_file():
        return None
    return _functions(path.read_text("utf-8")).get(test)


@cache
def _functions(code: str) -> dict[str, int]:
    """The lines where the functions of a module begin, by their names."""
    return {node.name: node.lineno for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}


class VerifiedRole(SphinxRole):
    """{verified}`path::test`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Link the mark to the test, or warn that there is none."""
        file, _, test = self.text.partition("::")
        line = line_of(ROOT / file, test)
        if line is None:
            message = "no test %r: write it, or correct the name, as path::test_function"
            logger.warning(message, self.text, location=self.get_location())
            return [nodes.literal(text=self.text)], []
        self.env.note_dependency(str(ROOT / file))
        page = self.env.metadata[self.env.docname]
        page["marks"] = page.get("marks", 0) + 1
        mark = nodes.reference(refuri=f"{source_url(file)}#L{line}", classes=["verified"])
        # a long name may break, and is found by a search all the same
        mark += nodes.raw("", f"✓ verified numerically by {test.replace('_', '_<wbr>')}", format="html")
        return [mark], []


def marks(env: BuildEnvironment, page: str, content: str) -> str:
    """How many such marks the book has: {marks}`marks` is "96 marks"."""
    return f"{sum(data.get('marks', 0) for data in env.metadata.values())} {content}"
