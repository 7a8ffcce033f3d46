"""The claims ledger: the claims of `book/claims.toml` as cards, with links that cannot go stale.

    ```{claims} length            the claims of one topic
    ```{claims-summary}           the answer to each claim in a line, by what holds and what does not

A card is written as MyST, so a chapter's label, a section or a work of the bibliography that does not exist is a
warning by the rules of the book; a test or a result file that does not exist is one by ours. Warnings fail the build.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from repository import ROOT, source_url
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger
from verified import line_of

logger = getLogger(__name__)

LEDGER = ROOT / "book" / "claims.toml"
VERDICTS = ("proved", "verified numerically", "holds under", "not supported here", "not testable here")
# how a reader reads the two whose names in the file say more than was done, or go on in the condition
WORDS = {"verified numerically": "measured", "holds under": "holds if ..."}
# the list on top of the page, by what a reader wants to know
ANSWERS = {
    "Holds": ("proved", "verified numerically"),
    "Holds under a condition": ("holds under",),
    "Not supported here": ("not supported here",),
    "Not testable here": ("not testable here",),
}
TOPICS = {
    "search": "For your own search",
    "phenomenon": "The phenomenon",
    "low-pass": "Low-pass filters",
    "length": "Length",
    "remedy": "The remedy",
    "later": "Later work and criticism",
}
TAGS = {
    "E": "We read it in the source.",
    "2": "Second-hand: we know it from notes about the source.",
    "M": "Ours, measured or derived.",
}
ROLES = {"fig": "numref", "ex": "ref"} | dict.fromkeys(("thm", "prop", "cor", "def", "rem", "obs"), "prf:ref")


@dataclass(frozen=True)
class Claim:
    """One claim; the fields are explained at the top of `book/claims.toml`."""

    id: str
    topic: str
    title: str
    brief: str
    statement: str
    tag: str
    reading: str
    verdict: str
    finding: str
    source: tuple[str, ...] = ()
    version: str = ""
    condition: str = ""
    chapters: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    change_our_mind: str = ""

    def __post_init__(self) -> None:
        """Refuse a verdict that is not one, or that lacks what it must come with."""
        proofs = [label for label in self.chapters if label.startswith(("thm-", "prop-", "cor-"))]
        for wrong, message in [
            (self.verdict not in VERDICTS, f"the verdict is {self.verdict!r}: it must be one of {VERDICTS}"),
            (self.tag not in TAGS, f"the tag is {self.tag!r}: it must be one of {tuple(TAGS)}"),
            (bool(self.source) == (self.tag == "M"), "a claim of others names its source, one of ours (M) has none"),
            (not self.chapters, "no chapter is named: a verdict needs evidence"),
            (
                (self.verdict == "holds under") != bool(self.condition),
                "a condition goes with 'holds under', and with it only",
            ),
            (
                not f"{self.condition} ".startswith(("if ", "for ", "only ", " ")),
                f"the condition continues 'holds', so it begins with if, for or only, not {self.condition[:12]!r}",
            ),
            (
                self.verdict == "proved" and not (proofs and self.tests),
                "'proved' needs a theorem of the book and a test",
            ),
            (self.verdict == "not supported here" and not self.change_our_mind, "say what would change our mind"),
        ]:
            if wrong:
                raise ValueError(f"claim {self.id!r}: {message}")

    @property
    def label(self) -> str:
        """The claim's label and anchor on the page."""
        return f"claim-{self.id}"

    @property
    def kind(self) -> str:
        """The class of its verdict, for the style sheet."""
        return nodes.make_id(f"claim {self.verdict}")


def words_of(verdict: str, condition: str = "") -> str:
    """The verdict as it is read, with its condition if there is room for one."""
    return f"holds {condition}" if condition else WORDS.get(verdict, verdict)


def load(path: Path = LEDGER) -> list[Claim]:
    """All claims, in the order of the file. A claim that is not as it must be is a ValueError or a TypeError."""
    tables = tomllib.loads(path.read_text("utf-8"))["claim"]
    return [
        Claim(**{key: paragraphs(value) if isinstance(value, str) else tuple(value) for key, value in table.items()})
        for table in tables
    ]


def paragraphs(text: str) -> str:
    """The text with each paragraph, which may be written over several lines, on one.

    >>> paragraphs("It rises\\nby 0.117.\\n\\nBoth models do.\\n")
    'It rises by 0.117.\\n\\nBoth models do.'
    """
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def chapter_of(label: str) -> str:
    """The link to a place in the book: `thm-floor`, `phenomenon`, or a section, `pooling#the-account`."""
    page, _, section = label.partition("#")
    if section:
        return f"[]({page}.md#{section}) in {{doc}}`{page}`"
    role = ROLES.get(label.partition("-")[0], "doc")
    return f"{{{role}}}`{label}`"


def listed(entries: dict[str, str]) -> str:
    """The entries that say something, as a list of definitions; a text may have several paragraphs."""
    return "\n\n".join(f"{term}\n: {text}".replace("\n\n", "\n\n  ") for term, text in entries.items() if text)


class _Ledger(SphinxDirective):
    """What both directives share."""

    def claims(self) -> list[Claim]:
        """Read the ledger; the page is built again when it changes."""
        self.env.note_dependency(str(LEDGER))
        try:
            return load()
        except (TypeError, ValueError) as problem:
            raise self.error(str(problem)) from None

    def parsed(self, text: str, parent: nodes.Element) -> nodes.Element:
        """Put what the MyST text says into a node."""
        self.state.nested_parse(StringList(text.splitlines(), self.env.docname), 0, parent)
        return parent


class ClaimsDirective(_Ledger):
    """```{claims} topic."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One section for each claim of the topic."""
        found = [claim for claim in self.claims() if claim.topic == self.arguments[0]]
        if not found:
            raise self.error(f"no claim has the topic {self.arguments[0]!r}: correct it, or remove the directive")
        return [self.card(claim) for claim in found]

    def card(self, claim: Claim) -> nodes.section:
        """The claim, with its verdict as a class for the style sheet."""
        section = nodes.section(names=[claim.label], classes=["claim", claim.kind])
        section += nodes.title(text=claim.title)
        self.state.document.note_explicit_target(section)
        cited = ", ".join(f"{{cite:t}}`{key}`" for key in claim.source)
        origin = " ".join(part for part in (cited and f"{cited}.", claim.version and f"{claim.version}.") if part)
        verdict = f"**holds** {claim.condition}" if claim.condition else f"**{words_of(claim.verdict)}**"
        first, _, more = claim.finding.partition("\n\n")
        shown = {
            "Verdict": f"{verdict}{'' if claim.condition else f': {claim.brief}'}.",
            "What we found": first,
        }
        folded = {
            "How we read it": claim.reading,
            "What else we found": more,
            "Evidence": "; ".join(map(chapter_of, claim.chapters)) + ".",
            "Source": f"{origin} {TAGS[claim.tag]}".strip(),
            "Tests": ", ".join(filter(None, map(self.test, claim.tests))),
            "Results": ", ".join(filter(None, map(self.result, claim.results))),
            "What would change our mind": claim.change_our_mind,
        }
        title = "How we read it, and the evidence"
        text = f"{claim.statement}\n\n{listed(shown)}\n\n```{{dropdown}} {title}\n{listed(folded)}\n```"
        return self.parsed(text, section)

    def test(self, name: str) -> str:
        """The link to a test, or a warning that there is none."""
        file, _, function = name.partition("::")
        line = line_of(ROOT / file, function)
        if line is None:
            message = "no test %r: write it, or correct the name, as path::test_function"
            logger.warning(message, name, location=self.get_location())
            return ""
        self.env.note_dependency(str(ROOT / file))
        return f"[`{function}`]({source_url(file)}#L{line})"

    def result(self, file: str) -> str:
        """The link to a result file, or a warning that there is none."""
        if not (ROOT / file).is_file():
            logger.warning("no file %r: measure it, or correct the name", file, location=self.get_location())
            return ""
        self.env.note_dependency(str(ROOT / file))
        return f"[`{Path(file).name}`]({source_url(file)})"


class SummaryDirective(_Ledger):
    """```{claims-summary}."""

    def run(self) -> list[nodes.Node]:
        """A list for each answer, with how many claims have it, and in it a line for each: name, link and the answer."""
        claims = self.claims()
        overview = nodes.container(classes=["ledger"])
        for answer, verdicts in ANSWERS.items():
            found = [claim for claim in claims if claim.verdict in verdicts]
            lines = [
                f"- {self.chip(claim, verdicts)}{{ref}}`{claim.title} <{claim.label}>`: {claim.brief}."
                for claim in found
            ]
            self.parsed("\n".join([f"**{answer}: {len(found)} of {len(claims)}**", "", *lines]), overview)
        return [overview]

    def chip(self, claim: Claim, verdicts: tuple[str, ...]) -> str:
        """The verdict before a line, in words only where the list has more than one."""
        words = words_of(claim.verdict) if len(verdicts) > 1 else "\N{NO-BREAK SPACE}"
        return f"[{words}]{{.verdict .{claim.kind}}} "
