"""Reading MyST as its own parser does: the blocks of a text that plain Markdown does not know."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import yaml
from docutils.parsers.rst.directives.misc import TestDirective
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.directives import parse_directive_text
from myst_parser.parsers.mdit import create_md_parser
from repository import ROOT

# blocks whose lines are not prose: roles and dollars inside them mean nothing
BLOCKS = {
    "amsmath",
    "code_block",
    "colon_fence",
    "fence",
    "html_block",
    "math_block",
    "math_block_label",
    "myst_line_comment",
    "myst_target",
}


@dataclass(frozen=True)
class Directive:
    """One directive: ```{name} argument, its options, its body, and the body's line in the file."""

    name: str
    argument: str
    options: dict[str, Any]
    body: str
    line: int


@cache
def config() -> MdParserConfig:
    """The book's own parser configuration."""
    book = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    return MdParserConfig(enable_extensions=book["parse"]["myst_enable_extensions"])


@cache
def _parser() -> MarkdownIt:
    return create_md_parser(replace(config(), disable_syntax=["inline"]), RendererHTML)


def blocks(text: str) -> list[Token]:
    """The outermost blocks of `text`, in order; `token.map` is (first line, line after the last), from 0."""
    found: list[Token] = []
    for token in _parser().parse(text + "\n"):
        if token.type in BLOCKS and token.map and (not found or token.map[0] >= found[-1].map[1]):
            found.append(token)
    return found


def directive(token: Token, line: int) -> Directive | None:
    """The directive that a fence holds, or None. `line` is the line of the text's first line in its file."""
    if token.type not in {"fence", "colon_fence"} or not token.info.startswith("{"):
        return None
    name, _, argument = token.info[1:].partition("}")
    # a code cell's options are YAML; TestDirective is the class for which any option is allowed
    parsed = parse_directive_text(TestDirective, "", token.content, validate_options=name != "code-cell")
    body_line = line + token.map[0] + 1 + parsed.body_offset
    return Directive(name, argument.strip(), parsed.options, "\n".join(parsed.body), body_line)


def walk(text: str, line: int = 1) -> Iterator[Directive]:
    """Every directive of `text`, those inside others too."""
    for token in blocks(text):
        if found := directive(token, line):
            yield found
            if found.name not in {"code-cell", "math"}:
                yield from walk(found.body, found.line)
