"""What is known only when all pages are read: a role or a directive leaves a place, which is filled before writing.

A page that has such a place is written again whenever a chapter was executed.
"""

from collections.abc import Callable
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.logging import getLogger

logger = getLogger(__name__)


class Late(nodes.Inline, nodes.TextElement):
    """The place; `name` and `content` are those of its role or directive."""


class LateRole(SphinxRole):
    """A role whose text `fill` makes of the environment, the page and the role's content."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Leave the place."""
        self.env.metadata[self.env.docname]["late"] = True
        place = Late(name=self.name, content=self.text)
        self.set_source_info(place)
        return [place], []


class LateDirective(SphinxDirective):
    """A directive without content, whose node `fill` makes."""

    def run(self) -> list[nodes.Node]:
        """Leave the place."""
        self.env.metadata[self.env.docname]["late"] = True
        place = Late(name=self.name, content="")
        self.set_source_info(place)
        return [place]


Fill = Callable[[BuildEnvironment, str, str], str | nodes.Element]
FILLS: dict[str, Fill] = {}


class FillIn(SphinxPostTransform):
    """Fill each place. What cannot be made is a warning, and so fails the build."""

    default_priority = 8  # before references are resolved

    def run(self, **_: Any) -> None:
        """Fill every place of this page."""
        for place in list(self.document.findall(Late)):
            try:
                filled = FILLS[place["name"]](self.env, self.env.docname, place["content"])
            except ValueError as problem:
                logger.warning("{%s}: %s", place["name"], problem, location=place)
                filled = place["content"]
            place.replace_self(nodes.Text(filled) if isinstance(filled, str) else filled)


def write_again(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The pages with such places, if a chapter was executed or found changed; connect to `env-updated`."""
    if not NbMetadataCollector.new_exec_data(env):
        return []
    return [page for page, data in env.metadata.items() if data.get("late")]


def add(app: Sphinx, name: str, fill: Fill) -> None:
    """Add a role of this kind, whose fill returns text."""
    FILLS[name] = fill
    app.add_role(name, LateRole())


def add_block(app: Sphinx, name: str, fill: Fill) -> None:
    """Add a directive of this kind, whose fill returns a node."""
    FILLS[name] = fill
    app.add_directive(name, LateDirective)


def register(app: Sphinx) -> None:
    """Connect what all of them share."""
    app.add_node(Late)
    app.add_post_transform(FillIn)
    app.connect("env-updated", write_again)
