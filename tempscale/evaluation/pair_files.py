"""A user's own pairs of query and document, read from files. Nothing here imports mteb: a wrong file is said at once."""

from pathlib import Path
from typing import Any, NamedTuple

from tempscale.texts.files import TABLES, read_table


class PairFile(str):
    """The name of a file of pairs, with how it is read: `evaluate` takes it where it takes the name of a task.

    Args:
        path: file, as for `tempscale.read_texts`; "-" is stdin.
        **options: arguments of `read_pair_file`; what is None is left out.

    >>> PairFile("mine.csv", query="question", encoding=None).options
    {'query': 'question'}
    """

    options: dict[str, str]

    def __new__(cls, path: str, **options: str | None) -> "PairFile":
        """Return the name; pickled, for a cluster, it keeps its options."""
        self = super().__new__(cls, path)
        self.options = {name: value for name, value in options.items() if value is not None}
        return self


class Pairs(NamedTuple):
    """What a file of pairs holds: queries with a document and its grade, and documents that no query asks for."""

    pairs: list[tuple[str, str, int]]
    documents: list[str]


def is_pair_file(name: str) -> bool:
    """Return whether a name of a task is that of a file of pairs.

    >>> is_pair_file("mine.CSV.gz"), is_pair_file("-"), is_pair_file("STS12"), is_pair_file("MTEB(rus, v1.1)")
    (True, True, False, False)
    """
    return name == "-" or isinstance(name, PairFile) or name.lower().removesuffix(".gz").endswith(TABLES)


def read_pair_file(
    path: str | Path,
    *,
    query: str = "query",
    document: str = "document",
    relevance: str | None = None,
    documents: str | Path | None = None,
    encoding: str | None = None,
) -> Pairs:
    """Return the pairs of a file with a query and a document a row.

    A row without a query gives a document that is one more to choose from. Rows without a document, repeated ones, and those
    that pair a text with itself are left out, and counted in one UserWarning.

    Args:
        path: file with rows and columns, as for `tempscale.read_texts`.
        query, document: names of the columns or keys.
        relevance: name of the column of grades, whole numbers from 0 (judged, and not relevant) up. By default the column
            "relevance" if there is one, and else every pair is relevant.
        documents: another file, whose texts are documents to choose from, too: plain text, or with a column of the same name
            as the documents here, or with only one.
        encoding: name of the encoding of the files; by default it is found out.

    Raises:
        OSError, ValueError, ModuleNotFoundError: as `tempscale.read_texts` does; or a grade that is none.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "mine.csv"
    >>> _ = file.write_text("query,document,relevance\\ntea,Tea is hot.,2\\ntea,Ice is cold.,0\\n,Snow is white.,\\n")
    >>> read_pair_file(file)
    Pairs(pairs=[('tea', 'Tea is hot.', 2), ('tea', 'Ice is cold.', 0)], documents=['Snow is white.'])
    """
    table = read_table(path, encoding=encoding)
    asked, answers = (table.texts(table.chosen(name)) for name in (query, document))
    if relevance is None and "relevance" in table.names:
        relevance = "relevance"
    grades = [1] * len(asked) if relevance is None else table.values(table.chosen(relevance))
    pairs: dict[tuple[str, str, int], None] = {}
    left: dict[str, None] = {}
    empty = equal = itself = 0
    for at, one, other, grade in zip(table.frame.index, asked, answers, grades, strict=True):
        if not other:
            empty += 1
        elif not one:
            left[other] = None
        elif one == other:
            itself += 1
            left[other] = None
        else:
            pair = one, other, _grade(grade, f"{relevance!r} in {table.place} {at} of {table.path}")
            equal += pair in pairs
            pairs[pair] = None
    for count, what in ((empty, "have no document"), (equal, "are repeated"), (itself, "pair a text with itself")):
        if count:
            table.notes.append(f"{count} of {len(asked)} rows {what} and are left out")
    table.say()
    more = [] if documents is None else _documents(documents, document, encoding)
    return Pairs(list(pairs), list(dict.fromkeys([*left, *more])))


def _documents(path: str | Path, column: str, encoding: str | None) -> list[str]:
    table = read_table(path, encoding=encoding, plain=True)
    texts = table.kept(table.chosen(column if column in table.names and not table.plain else None))
    table.say()
    return texts


def _grade(value: Any, where: str) -> int:
    try:
        grade = float(value)
    except (TypeError, ValueError):
        grade = -1.0
    if not grade >= 0 or grade % 1:
        said = "missing" if value is None else repr(value)
        raise ValueError(f"{where} is {said:.40}: expected a grade, a whole number from 0, not relevant, up")
    return int(grade)
