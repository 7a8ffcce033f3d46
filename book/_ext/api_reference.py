"""The API: an index of the public names in a line each, and entries that begin with what a reader looks for.

    ```{api-index}            a list of pages of the folder api: each name that a page documents, with its first sentence
    models
    ```

An entry's signature has names and defaults and no types, which the texts of the parameters give in words; its example
stands below its first sentence.
"""

import inspect
import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from repository import ROOT
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import stringify_annotation

ENTRY = re.compile(r"^\.\. auto(function|class|exception):: (\w+)$", re.MULTILINE)
ROLES = {"function": "func", "class": "class", "exception": "exc"}
SHORT = 25  # characters of a return type that a signature still has room for


class ApiIndexDirective(SphinxDirective):
    """```{api-index}."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """A list for each of the pages: its names."""
        import tempscale  # takes as long as a build in which nothing changed, which comes without it

        lines = []
        for page in self.content:
            file = ROOT / "book" / "api" / f"{page}.md"
            if not file.is_file():
                raise self.error(f"no page {page!r} in book/api: correct its name")
            self.env.note_dependency(str(file))
            lines += [f"**{{doc}}`api/{page}`**", ""]
            for kind, name in ENTRY.findall(file.read_text("utf-8")):
                lines.append(f"- {{py:{ROLES[kind]}}}`~tempscale.{name}` {first_sentence(getattr(tempscale, name))}")
            lines.append("")
        index = nodes.container(classes=["api-index"])
        self.state.nested_parse(StringList(lines, self.env.docname), 0, index)
        return [index]


def first_sentence(documented: object) -> str:
    """The first paragraph of a docstring, which is one sentence or two, without the "Return" that most begin with."""
    text = " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())
    text = text.removeprefix("Return ")
    return text[:1].upper() + text[1:]


def example_first(app: Sphinx, what: str, name: str, documented: object, options: Any, lines: list[str]) -> None:
    """Move the example, with what follows it, below the first paragraph; connect to `autodoc-process-docstring`."""
    example = next((at for at, line in enumerate(lines) if line.startswith(">>>")), None)
    summary = next((at for at, line in enumerate(lines) if not line.strip()), None)
    if example is not None and summary is not None and summary < example:
        lines[:] = [*lines[: summary + 1], *lines[example:], "", *lines[summary + 1 : example]]


def without_types(
    app: Sphinx, what: str, name: str, documented: object, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Give a signature back its return type, if that is short; connect to `autodoc-process-signature`.

    `autodoc_typehints: none` took all types away.
    """
    if what not in {"function", "method"}:
        return signature, returns
    annotation = inspect.signature(documented).return_annotation  # type: ignore[arg-type]
    if annotation in {inspect.Signature.empty, None, Any}:
        return signature, None
    text = stringify_annotation(annotation, "smart")
    return signature, text if len(text.rpartition(".")[2]) <= SHORT and "[" not in text else None


def name_toggle(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Say what opens the rooms in the side bar, which the theme leaves to an arrow; connect to `html-page-context`."""
    if made := context.get("generate_toctree_html"):

        def named(*given: Any, **options: Any) -> str:
            return str(made(*given, **options)).replace("<summary>", '<summary aria-label="Pages of the API">')

        context["generate_toctree_html"] = named


def register(app: Sphinx) -> None:
    """Add what this module adds to the book."""
    app.add_directive("api-index", ApiIndexDirective)
    app.connect("autodoc-process-docstring", example_first, priority=400)  # before napoleon reads the sections
    app.connect("autodoc-process-signature", without_types)
    app.connect("html-page-context", name_toggle, priority=900)  # after the theme
