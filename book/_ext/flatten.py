"""MyST Markdown to the plain Markdown that Jupyter and Colab show.

Directives become quotes and foldable sections, references become names and links. What is not known here
is an error with its file and line, never dropped.
"""

import posixpath
import re

import myst
from markdown_it.token import Token
from myst import Directive
from references import Book, heading, short
from repository import install, raw_url, source_url
from sphinx_proof.nodes import NODE_TYPES

THEOREMS = {f"prf:{kind}" for kind in NODE_TYPES}
ADMONITIONS = {"attention", "caution", "danger", "error", "hint", "important", "note", "seealso", "tip", "warning"}
TITLED = {"admonition", "margin", "sidebar", "topic"}
FOLDED = {"dropdown": "", "solution": "Solution"}
EXPLORERS = "_static/explorers"
LIVE = "On this chapter's page in the book the figure is live: its controls work in any browser."
CODE_ROLES = {"code", "glue", "glue:text", "kbd", "file"}
PYTHON_ROLES = {"attr", "class", "data", "exc", "func", "meth", "mod", "obj"}
_DISPLAY = re.compile(r"\$\$.*?\$\$|\\begin\{(?P<env>\w+\*?)\}.*?\\end\{(?P=env)\}", re.S)
_INLINE = re.compile(
    r"""
      (?P<escape>\\.)
    | (?P<role>\{(?P<name>[\w:.+-]+)\}(?P<ticks>`+)(?P<content>.+?)(?P=ticks)(?!`))
    | (?P<code>(?P<fence>`+).+?(?P=fence)(?!`))
    | (?P<math>\$\$.+?\$\$|\$(?:[^$\\]|\\.)+?\$)
    | (?P<substitution>\{\{.*?\}\})
    | (?P<footnote>\[\^(?P<note>[\w-]+)\](?P<colon>:)?)
    | (?P<image>!\[(?P<alt>[^\]]*)\]\((?P<source>[^)\s]+)\))
    | (?P<link>\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s]+)\))
    | (?P<attributes>\{(?:[.\#][\w-]+|[\w-]+=[^}\s]+)(?:\s+(?:[.\#][\w-]+|[\w-]+=[^}\s]+))*\})
    """,
    re.X | re.S,
)


class FlattenError(ValueError):
    """A construct that has no plain form here."""


class Flattener:
    """Flattens the text of one page: `See {term}`filter rate`.` becomes `See filter rate.`"""

    def __init__(self, book: Book, page: str) -> None:
        """Use the names of `book`; `page` is the file name, for errors and for links that stay inside."""
        self.book = book
        self.page = page

    def flatten(self, text: str, line: int = 1, *, folded: bool = False) -> str:
        """Return `text`, whose first line is `line` of its file, as plain Markdown."""
        lines = text.split("\n")
        parts, start = [], 0
        for token in myst.blocks(text):
            first, last = token.map
            parts.append(self._inline("\n".join(lines[start:first]), line + start))
            indent = re.match(r"\s*", lines[first])[0]
            block = self._block(token, "\n".join(lines[first:last]), line, folded=folded)
            parts.append("\n".join(indent + row if row else row for row in block.split("\n")))
            start = last
        parts.append(self._inline("\n".join(lines[start:]), line + start))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).strip("\n")

    def _block(self, token: Token, source: str, line: int, *, folded: bool) -> str:
        if token.type in {"myst_target", "myst_line_comment"}:
            return ""
        if token.type == "math_block_label":
            return _display(token.content, token.info)
        if token.type == "math_block":
            return _display(token.content)
        if token.type == "colon_fence" and not token.info.startswith("{"):
            raise self._error(f"a fence of colons without a directive, {token.info!r}", line + token.map[0])
        if directive := myst.directive(token, line):
            return "\n" + self._directive(directive, line + token.map[0], folded=folded) + "\n"
        return _dedent(source)

    def _directive(self, found: Directive, line: int, *, folded: bool) -> str:
        name, argument = found.name, self._inline(found.argument, line)
        options, kind = found.options, found.name.removeprefix("prf:").removesuffix("-start")
        label = options.get("label", "")
        if name == "math":
            return _display(found.body, label)
        if name in {"code-block", "code"}:
            return f"```{found.argument}\n{found.body}\n```"
        body = self.flatten(found.body, found.line, folded=name == "dropdown")
        if name in THEOREMS or name == "exercise":
            return _quote(f"**{heading(kind, argument, label)}.** {body}")
        if name in ADMONITIONS:
            # an admonition's text may begin on its first line
            return _quote(f"**{name.capitalize()}.** {f'{argument} {body}'.strip()}")
        if name in TITLED:
            return _quote(f"**{argument}.**\n\n{body}" if argument else body)
        if name == "prf:proof":
            proof = f"*Proof.* {body}"
            return proof if folded else _fold("Proof", proof)
        if name in FOLDED:
            return _fold(FOLDED[name] or argument or "More", body)
        if name == "exercise-start":
            return f"**{heading(kind, argument, label)}.** {body}"
        if name == "solution-start":
            return f"**Solution.** {body}"
        if name in {"exercise-end", "solution-end"}:
            return ""
        if name == "image":
            return self._image(options.get("alt", ""), found.argument)
        if name == "figure":
            caption = self.caption(body, options.get("name", ""))
            return f"{self._image(options.get('alt', ''), found.argument)}\n\n{caption}"
        if name == "explorer":
            image = self._image(options.get("alt", ""), f"{EXPLORERS}/{found.argument}.svg")
            return f"{image}\n\n{self.caption(body, options.get('name', ''))} {LIVE}"
        if name == "table":
            return f"*{argument}*\n\n{body}" if argument else body
        raise self._error(f"unknown directive {{{name}}}", line)

    def caption(self, text: str, name: str) -> str:
        """A figure's caption, with the name by which the text refers to it: `*Figure (line).* A line.`"""
        return f"*{heading('figure', '', name)}.* {text.strip()}"

    def _inline(self, text: str, line: int) -> str:
        def replace(match: re.Match) -> str:
            at = line + text.count("\n", 0, match.start())
            if match["role"]:
                return self._role(match["name"], match["content"].replace("\n", " "), at)
            if match["substitution"] == "{{ install }}":
                return install()
            if match["substitution"]:
                raise self._error(f"unknown substitution {match['substitution']}", at)
            if match["footnote"]:
                return f"<sup>{match['note']}</sup>"
            if match["image"]:
                return self._image(match["alt"], match["source"])
            if match["link"]:
                return self._link(match["text"], match["target"], at)
            return "" if match["attributes"] else match[0]

        return _INLINE.sub(replace, text)

    def _role(self, name: str, content: str, line: int) -> str:
        explicit = re.fullmatch(r"(?P<text>.*?)\s*<(?P<target>[^<>]+)>", content)
        text, target = (explicit["text"], explicit["target"]) if explicit else ("", content)
        if name.startswith("cite"):
            return self._cite(name, content, line)
        if name in {"ref", "numref", "eq", "prf:ref"}:
            # numref's "Figure %s" has no number to show here
            return self._refer(target, "" if "%s" in text else text, line)
        if name == "doc":
            return self._link(text, f"{target.removeprefix('/book/')}.md", line)
        if name == "term":
            return text or target
        if name in CODE_ROLES:
            return f"`{content.partition(':')[0]}`" if name.startswith("glue") else f"`{content}`"
        if name.removeprefix("py:") in PYTHON_ROLES:
            return f"`{text or target.removeprefix('~')}`"
        if name == "math":
            return f"${content}$"
        if name == "measured":
            # another chapter's value: its name, linked to where it is printed
            chapter, _, value = content.partition(":")[0].partition(".")
            return self._link(f"`{value}`", f"{chapter}.md", line)
        if name == "runtime":
            return ""  # measured on the machine that built the pages, not on Colab
        if name == "verified":
            path, _, test = content.partition("::")
            return f"[✓ verified numerically by {test}]({source_url(path)})"
        raise self._error(f"unknown role {{{name}}}", line)

    def _cite(self, name: str, content: str, line: int) -> str:
        if name not in {"cite", "cite:p", "cite:t"}:
            raise self._error(f"unknown role {{{name}}}", line)
        keys = [key.strip() for key in content.split(",")]
        for key in keys:
            if key not in self.book.works:
                raise self._error(f"{key!r} is not in references.bib", line)
        if name == "cite:t":
            return " and ".join(self.book.cite(key, inside=False) for key in keys)
        return f"({'; '.join(self.book.cite(key, inside=True) for key in keys)})"

    def _refer(self, label: str, text: str, line: int) -> str:
        if label not in self.book.labels:
            raise self._error(f"no label {label!r} in book/*.md", line)
        return self.book.refer(label, self.page, text)

    def _link(self, text: str, target: str, line: int) -> str:
        if re.match(r"(https?|mailto):", target):
            return f"[{text}]({target})"
        if target.startswith("#"):
            return self._refer(target[1:], text, line)
        file = target.partition("#")[0]
        path = posixpath.normpath(posixpath.join("book", file))
        if posixpath.dirname(path) != "book" or not path.endswith(".md"):
            return f"[{text or file}]({source_url(path)})"
        page = posixpath.basename(path)
        if page not in self.book.titles:
            raise self._error(f"no page {path!r}", line)
        return f"[{text or self.book.titles[page]}]({self.book.url(page)})"

    def _image(self, alt: str, source: str) -> str:
        url = source if "://" in source else raw_url(posixpath.normpath(posixpath.join("book", source)))
        return f"![{alt}]({url})"

    def _error(self, what: str, line: int) -> FlattenError:
        remedy = "correct it, or give it a plain form in book/_ext/flatten.py"
        return FlattenError(f"book/{self.page}:{line}: {what}: {remedy}")


def _display(tex: str, label: str = "") -> str:
    """Display maths; a labelled formula is followed by its name, since a notebook does not number."""
    formula = f"$$\n{tex.strip()}\n$$"
    return f'{formula}\n\n<div align="right">({short(label)})</div>\n' if label else formula


def _quote(text: str) -> str:
    # inside a quote Jupyter would read the marker of each further line as part of the formula
    text = _DISPLAY.sub(lambda match: " ".join(match[0].split()), text)
    return "\n".join(f"> {line}".rstrip() for line in text.strip().split("\n"))


def _fold(summary: str, body: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def _dedent(source: str) -> str:
    indent = len(source) - len(source.lstrip())
    return "\n".join(line[min(indent, len(line) - len(line.lstrip())) :] for line in source.split("\n"))
