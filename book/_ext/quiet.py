"""Quiet pages: what `glue` prints is left out, code that teaches nothing is folded, several marks of tests are one.

The notebooks that readers download or open on Colab stay whole. In a page a cell keeps its code, and its copy button
all of it: parts of a cell are folded where they stand. The tags `hide-input` and `show-input` decide for a cell.
"""

import ast
import re
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

import folding
import measured
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxTranslator
from sphinx_exercise.nodes import solution_node

WIDEST = 88  # characters, of an output whose lines are not broken
EXPLICIT = {"show-input"}


class Folded(nodes.General, nodes.Element):
    """What opens on demand, below a line that says what it is: `<details>`."""


def visit_folded(translator: SphinxTranslator, node: Folded) -> None:
    """Open the element."""
    classes = " ".join(["folded", *node["classes"]])
    lines = f' <span class="lines">{escape(node["size"])}</span>' if node.get("size") else ""
    translator.body.append(f'<details class="{classes}"><summary>{escape(node["label"])}{lines}</summary>\n')


def depart_folded(translator: SphinxTranslator, node: Folded) -> None:
    """Close the element."""
    translator.body.append("</details>\n")


def quieten(app: Sphinx, doctree: nodes.document) -> None:
    """Edit a page just read; connect to `doctree-read`."""
    printed = _glued(app)
    for cell in list(doctree.findall(_is("cell_code"))):
        drop_printed(cell, printed)
        fold(cell)
    for paragraph in list(doctree.findall(nodes.paragraph)):
        gather_marks(paragraph)


def _is(element: str) -> Callable[[nodes.Node], bool]:
    return lambda node: isinstance(node, nodes.container) and node.get("nb_element") == element


def _glued(app: Sphinx) -> str:
    """A pattern of the text that `glue` printed for each of the page's glued values."""
    docname = app.env.docname
    names = getattr(app.env, "nb_metadata", {}).get(docname, {}).get("glue", ())
    if not names:
        return ""
    file = Path(app.outdir).parent / "jupyter_execute" / f"{docname}.glue.json"
    found = measured.texts(file)
    return printed_by_glue({name: found[name] for name in names})


def printed_by_glue(values: Mapping[str, str]) -> str:
    """A regular expression for the lines that `tempscale.notebook.glue` prints.

    Args:
        values: the `repr` of each value, by name.
    """
    return "|".join(f"^{re.escape(f'{name} = {_shown(text)}')}\\n" for name, text in values.items())


def _shown(text: str) -> str:
    if text[0] in "'\"":
        return ast.literal_eval(text)
    return text if re.fullmatch(r"-?\d+|True|False|None", text) else f"{float(text):.6g}"


def drop_printed(cell: nodes.container, pattern: str) -> None:
    """Take the printed lines of a pattern out of a cell's output, and the output with them if nothing else is there."""
    for output in list(cell.findall(_is("cell_code_output"))):
        for stream in list(output.findall(nodes.literal_block)):
            if "stream" in stream["classes"]:
                # the parser has taken the last line's end away
                text = f"{stream.astext()}\n"
                text = (re.sub(pattern, "", text, flags=re.M) if pattern else text).removesuffix("\n")
                if text.strip():
                    stream.clear()
                    stream.rawsource = text
                    stream += nodes.Text(text)
                    if max(map(len, text.splitlines())) > WIDEST:
                        stream["classes"].append("sentences")
                else:
                    stream.parent.remove(stream)
        if not output.children:
            output.parent.remove(output)


def fold(cell: nodes.container) -> None:
    """Fold the parts of a cell's code that `folding` or a tag names, but nothing inside of a solution, itself folded."""
    code = next(cell.findall(_is("cell_code_source")), None)
    tags = set(cell["cell_metadata"].get("tags", []))
    if code is None or tags & EXPLICIT:
        return
    block = next(code.findall(nodes.literal_block))
    parts = folding.whole(block.astext())
    hidden = cell.get("hide_mode")
    if hidden == "all" and next(cell.findall(_is("cell_code_output")), None):  # myst-nb folds code and output together
        cell["prompt_show"] = cell["prompt_hide"] = f"{parts[0].label}, and what comes out"
        return
    if hidden in {"input", "all"}:
        del cell["hide_mode"]  # myst-nb would fold it once more
    else:
        parts = folding.split(block.astext())
    if _inside(cell, solution_node):
        return
    if not any(part.label for part in parts):
        return
    code["classes"].append("parts")
    code.clear()
    for part in parts:
        piece = block.copy()
        piece.rawsource = part.source
        piece += nodes.Text(part.source)
        code += Folded("", piece, label=part.label, size=_lines(part.lines)) if part.label else piece


def gather_marks(paragraph: nodes.paragraph) -> None:
    """Make the marks of several tests at a paragraph's end one mark that opens."""
    marks: list[nodes.Node] = []
    for child in reversed(paragraph.children):
        if not (_is_mark(child) or (isinstance(child, nodes.Text) and not child.strip())):
            break
        marks.insert(0, child)
    tests = [mark for mark in marks if _is_mark(mark)]
    if len(tests) < 2:
        return
    for mark in marks:
        paragraph.remove(mark)
    items = [nodes.list_item("", nodes.paragraph("", "", test)) for test in tests]
    folded = Folded(
        "", nodes.bullet_list("", *items), label=f"✓ verified numerically ({len(tests)} tests)", classes=["verified"]
    )
    place = paragraph.parent.index(paragraph)
    paragraph.parent.insert(place + 1, folded)
    if not paragraph.children:
        paragraph.parent.remove(paragraph)


def _is_mark(node: nodes.Node) -> bool:
    return isinstance(node, nodes.reference) and "verified" in node["classes"]


def _inside(node: nodes.Node, kind: type[nodes.Node]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kind):
            return True
    return False


def _lines(number: int) -> str:
    return f"{number} line{'' if number == 1 else 's'}"


def register(app: Sphinx) -> None:
    """Add what this module adds to the book."""
    app.add_node(Folded, html=(visit_folded, depart_folded))
    app.connect("doctree-read", quieten)
