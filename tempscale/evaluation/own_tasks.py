"""Retrieval tasks that need no download, as tasks of mteb: a user's own pairs, and docstrings of installed packages."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from tempscale.texts.docstrings import PACKAGES, docstrings
from tempscale.texts.files import read_columns

FEWEST = 10  # queries: `compare` gives no interval for fewer
# Shorter docstrings hardly say anything beyond their summary.
MIN_TOKENS = 24


class PairRetrieval(AbsTaskRetrieval):  # type: ignore[misc]  # mteb is untyped here
    """Find the documents that belong to a query, among the documents of all pairs.

    Equal queries are one query with several relevant documents, and equal documents are one document.

    Args:
        pairs: pairs of query and document, with at least 10 different queries and 2 different documents.
        name: name of the task, in results.
        **kwargs: arguments of every task of mteb.

    Raises:
        ValueError: too few queries or documents.

    >>> task = PairRetrieval([(f"name of {n}", f"text on {n}") for n in range(12)], name="mine")
    >>> task.load_data()
    >>> len(task.dataset["default"]["test"]["corpus"]), task.metadata.name
    (12, 'mine')
    """

    data_loaded: bool
    metadata = TaskMetadata(
        name="PairRetrieval",
        description="Find the documents that belong to a query, among those of all given pairs.",
        dataset={"path": "tempscale/pairs", "revision": "given"},
        type="Retrieval",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def __init__(self, pairs: Iterable[tuple[str, str]], *, name: str = "PairRetrieval", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pairs = list(pairs)
        queries, documents = (
            (len(dict.fromkeys(side)) for side in zip(*self.pairs, strict=True)) if self.pairs else (0, 0)
        )
        if queries < FEWEST or documents < 2:
            raise ValueError(
                f"{queries} different queries with {documents} different documents: expected at least {FEWEST} queries, "
                "and 2 documents to choose from"
            )
        self.metadata = self.metadata.model_copy(update={"name": name})

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Arrange the pairs as mteb wants them; mteb's arguments make no difference."""
        if self.data_loaded:
            return
        queries = {text: f"query {n}" for n, text in enumerate(dict.fromkeys(query for query, _ in self.pairs))}
        documents = {text: f"document {n}" for n, text in enumerate(dict.fromkeys(text for _, text in self.pairs))}
        relevant: dict[str, dict[str, int]] = {}
        for query, document in self.pairs:
            relevant.setdefault(queries[query], {})[documents[document]] = 1
        self.dataset = arranged(
            dict(zip(documents.values(), documents, strict=True)),
            dict(zip(queries.values(), queries, strict=True)),
            relevant,
        )
        self.data_loaded = True


def arranged(
    documents: Mapping[str, str], queries: Mapping[str, str], relevant: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return a corpus, queries (texts by id) and the grades of relevant documents as a retrieval task of mteb holds them."""
    from datasets import Dataset

    corpus = {"id": list(documents), "title": [""] * len(documents), "text": list(documents.values())}
    return {
        "default": {
            "test": {
                "corpus": Dataset.from_dict(corpus),
                "queries": Dataset.from_dict({"id": list(queries), "text": list(queries.values())}),
                "relevant_docs": relevant,
                "top_ranked": None,
            }
        }
    }


def read_pairs(path: str | Path) -> PairRetrieval:
    """Return the task of a file with the columns (or keys) query and document; named after the file.

    Args:
        path: file, .csv, .tsv, .jsonl or .ndjson, as for `read_texts`. Rows without one of the two are left out.

    Raises:
        OSError, ValueError: as `read_texts` does, or too few queries or documents.
    """
    rows = zip(*read_columns(path, ["query", "document"]), strict=True)
    try:
        return PairRetrieval([pair for pair in rows if all(pair)], name=Path(path).stem)
    except ValueError as error:
        raise ValueError(f"{path} holds {error}") from error


def _revision(packages: Sequence[str]) -> str:
    """Name the versions of the packages, which are the data's revision."""
    distributions = packages_distributions()
    return " ".join(f"{name}-{version(distributions[name][0])}" for name in packages if name in distributions)


class DocstringRetrieval(AbsTaskRetrieval):  # type: ignore[misc]  # mteb is untyped here
    """Find the body of a docstring by its summary, among the bodies of a sample of docstrings.

    The texts are those of `tempscale.docstrings`: pairs of at least 24 tokens whose summary and body no other docstring
    has. Of these a sample is drawn with a fixed seed; each query has one relevant document, and the others' are the rest
    of the corpus. Bodies run from ten to thousands of tokens, half of them to more than about 230. The data change
    with the versions of the packages, which are the revision.

    Args:
        queries: size of the sample, and of the corpus.
        packages: import names of installed packages.
        **kwargs: arguments of every task of mteb.

    Raises:
        ValueError: on loading, fewer pairs than queries.

    >>> task = DocstringRetrieval(queries=100, packages=["numpy"])
    >>> task.load_data()
    >>> len(task.dataset["default"]["test"]["corpus"])
    100
    """

    data_loaded: bool
    metadata = TaskMetadata(
        name="DocstringRetrieval",
        description="Find the body of a docstring of a scientific Python package by its first paragraph.",
        dataset={"path": "tempscale/docstrings", "revision": _revision(PACKAGES)},
        reference="https://peps.python.org/pep-0257/",
        type="Retrieval",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        date=("2005-01-01", "2025-12-31"),
        domains=["Programming", "Written", "Non-fiction"],
        task_subtypes=["Code retrieval"],
        license="multiple",
        annotations_creators="derived",
        dialect=[],
        sample_creation="found",
        bibtex_citation="",
        prompt={"query": "Given the summary of a function, retrieve the rest of its documentation"},
    )

    def __init__(self, *, queries: int = 1000, packages: Sequence[str] = PACKAGES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.queries_drawn, self.packages = queries, tuple(packages)
        if self.packages != PACKAGES:
            source = {**self.metadata.dataset, "revision": _revision(self.packages)}
            self.metadata = self.metadata.model_copy(update={"dataset": source})

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Read the docstrings and draw the sample; mteb's arguments make no difference."""
        if self.data_loaded:
            return
        texts = docstrings(self.packages, min_tokens=MIN_TOKENS)
        pairs = texts[texts.pair]
        if len(pairs) < self.queries_drawn:
            raise ValueError(
                f"{len(pairs)} docstrings of {', '.join(self.packages)} are pairs of summary and body, fewer than the "
                f"{self.queries_drawn} queries asked for: ask for fewer, or name more packages"
            )
        drawn = pairs.sample(self.queries_drawn, random_state=0).sort_values("name")
        names = drawn.name.tolist()
        self.dataset = arranged(
            dict(zip(names, drawn.body, strict=True)),
            {f"summary of {name}": text for name, text in zip(names, drawn.summary, strict=True)},
            {f"summary of {name}": {name: 1} for name in names},
        )
        self.data_loaded = True
