"""Which lines of a cell teach, and which are folded: imports, drawing, numbers for the text and checks.

`split(source)` cuts a cell into parts, each open or folded under a label that says what it holds.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

LONGEST = 16  # lines that may stay open in a cell: where there are more, all is folded
LEAST = 3  # lines: fewer teach nothing beside a fold, and are not worth one
LABELS = {
    "imports": "imports",
    "functions": "functions",
    "code": "computation",
    "drawing": "drawing",
    "numbers": "numbers for the text",
    "checks": "checks",
}
TEACH = {"functions", "code"}


@dataclass(frozen=True)
class Part:
    """Lines of a cell; with a label they are folded."""

    source: str
    label: str = ""

    @property
    def lines(self) -> int:
        """How many of the lines are not blank."""
        return _lines(self.source)


def split(source: str) -> list[Part]:
    """Cut a cell's source into parts, of which the open ones have at most `LONGEST` lines together.

    Three imports, three lines of computation and three assertions become three parts, with the labels
    "Imports", "" and "Checks". Of a cell with more code, the first functions stay open.
    """
    found = pieces(source)
    folded = [kind not in TEACH for kind, _ in found]
    for flags in (_open_short(folded, found), folded, _functions_open(found)):
        lines = sum(_lines(text) for flag, (_, text) in zip(flags, found, strict=True) if not flag)
        if lines <= LONGEST and (lines >= LEAST or not any(flags)):
            return [
                Part(_join(text for _, text in run), label(kind for kind, _ in run) if flag else "")
                for flag, run in _runs(flags, found)
            ]
    return whole(source)


def whole(source: str) -> list[Part]:
    """The cell as one fold."""
    return [Part(source.strip("\n"), label(kind for kind, _ in pieces(source)))]


def label(kinds: Iterable[str]) -> str:
    """Name what a fold holds: `label(["checks", "drawing"])` is "Drawing and checks"."""
    present = set(kinds) or {"code"}
    names = [name for kind, name in LABELS.items() if kind in present]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])).capitalize()


def pieces(source: str) -> list[tuple[str, str]]:
    """The statements of a cell, each as its kind and its text with the comments above it."""
    source = source.strip("\n")
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # an IPython magic
        statements = []
    if not statements:
        return [("code", source)]
    rows = source.splitlines()
    ends = [statement.end_lineno for statement in statements[:-1]]
    cuts = [0, *ends, len(rows)]  # a last comment stays with the last statement
    return [(kind, "\n".join(rows[a:b])) for kind, (a, b) in zip(_kinds(statements), pairwise(cuts), strict=True)]


def _kinds(statements: list[ast.stmt]) -> Iterator[str]:
    """The kind of each statement, in order."""
    axes = {"plt"}
    for statement in statements:
        # a name that is bound from an axis or a figure is one itself
        for node in ast.walk(statement):
            if isinstance(node, ast.For) and _names(node.iter) & axes:
                axes |= _names(node.target)
            elif isinstance(node, ast.Assign) and _names(node.value) & axes:
                axes |= set().union(*map(_names, node.targets))
        yield _kind(statement, axes)


def _kind(statement: ast.stmt, axes: set[str]) -> str:
    if isinstance(statement, ast.Import | ast.ImportFrom) or _called(statement) == "use_style":
        return "imports"
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return "functions"
    if isinstance(statement, ast.Assert) or _called(statement).startswith("assert_"):
        return "checks"
    if _called(statement).startswith("glue"):
        return "numbers"
    if _names(statement) & axes:
        return "drawing"
    if isinstance(statement, ast.For | ast.With | ast.If):
        # what leads up to a check is part of it
        return _kind(statement.body[-1], axes)
    return "code"


def _called(statement: ast.stmt) -> str:
    """The name of the function, if the statement is a call and nothing else."""
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
        return ""
    return ast.unparse(statement.value.func).rpartition(".")[2]


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _lines(source: str) -> int:
    return sum(bool(line.strip()) for line in source.splitlines())


def _runs(flags: list[bool], found: list[tuple[str, str]]) -> list[tuple[bool, list[tuple[str, str]]]]:
    """The pieces in runs of equal flags."""
    grouped = groupby(zip(flags, found, strict=True), key=itemgetter(0))
    return [(flag, [piece for _, piece in group]) for flag, group in grouped]


def _open_short(flags: list[bool], found: list[tuple[str, str]]) -> list[bool]:
    """Leave the shortest folds open: a check of one line stays with what it checks."""
    opened = []
    for flag, run in _runs(flags, found):
        opened += [flag and sum(_lines(text) for _, text in run) >= LEAST] * len(run)
    return opened if False in flags else flags


def _functions_open(found: list[tuple[str, str]]) -> list[bool]:
    """Fold all but the first functions, as many as there is room for."""
    flags, room = [], LONGEST
    for kind, text in found:
        room -= _lines(text) if kind == "functions" else 0
        flags.append(kind != "functions" or room < 0)
    return flags


def _join(texts: Iterable[str]) -> str:
    return "\n".join(texts).strip("\n")
