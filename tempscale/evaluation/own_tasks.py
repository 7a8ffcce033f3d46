"""Retrieval tasks that need no download, as tasks of mteb: a user's own pairs, and docstrings of installed packages."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import distributions, packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import EncoderProtocol, SearchEncoderWrapper, SearchProtocol

from tempscale.evaluation.pair_files import read_pair_file
from tempscale.texts.docstrings import PACKAGES, docstrings, folders

if TYPE_CHECKING:
    import torch

FEWEST = 10  # queries: `compare` gives no interval for fewer
BLOCK = 2**25  # similarities that are computed at once
# Shorter docstrings hardly say anything beyond their summary.
MIN_TOKENS = 24


class PairRetrieval(AbsTaskRetrieval):  # type: ignore[misc]  # mteb is untyped here
    """Find the documents that belong to a query, among the documents of all pairs.

    Equal queries are one query with several relevant documents, and equal documents are one document. A document that is the
    query itself is not among those to choose from. Scores go up to rank 20, where mteb's go to 1000: that keeps 100 000
    pairs within 4 GB.

    Args:
        pairs: pairs of query and document, or triples with the grade of the document, a whole number: 0 is judged and not
            relevant, 1 the grade of a pair. At least 10 different queries need a relevant document, of at least 2 documents.
        documents: more documents to choose from.
        name: name of the task, in results.
        origin: what the pairs are of, such as the path of a file: tasks of one name and other origins are refused together.
        **kwargs: arguments of every task of mteb.

    Raises:
        ValueError: too few queries or documents, a grade that is no whole number from 0 up, or two grades for one pair.

    >>> task = PairRetrieval([(f"name of {n}", f"text on {n}") for n in range(12)], documents=["text on 99"], name="mine")
    >>> task.load_data()
    >>> len(task.dataset["default"]["test"]["corpus"]), task.metadata.name
    (13, 'mine')
    """

    data_loaded: bool
    k_values = (1, 3, 5, 10, 20)
    metadata = TaskMetadata(
        name="PairRetrieval",
        description="Find the documents that belong to a query, among those of all given pairs.",
        dataset={"path": "tempscale/pairs", "revision": "given"},
        type="Retrieval",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def __init__(
        self,
        pairs: Iterable[tuple[str, str] | tuple[str, str, int]],
        *,
        documents: Iterable[str] = (),
        name: str = "PairRetrieval",
        origin: object = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pairs = list(pairs)
        self.documents = list(documents)
        self.origin = object() if origin is None else origin
        self._grades: dict[tuple[str, str], int] = {}
        for pair in self.pairs:
            query, document, grade = (*pair, 1)[:3]
            if not isinstance(grade, int) or grade < 0:
                raise ValueError(f"the grade {grade!r} for the query {query!r:.40}: expected a whole number from 0 up")
            if self._grades.setdefault((query, document), grade) != grade:
                raise ValueError(
                    f"the grades {self._grades[query, document]} and {grade} for one pair, of the query {query!r:.40}: "
                    "give it one grade"
                )
        queries, among = self.query_texts(), self.document_texts()
        if len(queries) < FEWEST or len(among) < 2:
            raise ValueError(
                f"{len(queries)} different queries with {len(among)} different documents: expected at least {FEWEST} "
                "queries that have a relevant document, and 2 documents to choose from"
            )
        self.metadata = self.metadata.model_copy(update={"name": name})

    def query_texts(self) -> dict[str, str]:
        """Return the queries that have a relevant document, other than themselves, by their names.

        mteb takes a document for the query itself where they have one name, so a query that is a document has its name.
        """
        names = {text: name for name, text in self.document_texts().items()}
        asked = dict.fromkeys(one for (one, other), grade in self._grades.items() if grade and one != other)
        return {names.get(text, f"query {n}"): text for n, text in enumerate(asked)}

    def document_texts(self) -> dict[str, str]:
        """Return the documents to choose from, by their names."""
        among = dict.fromkeys([*(document for _, document in self._grades), *self.documents])
        return {f"document {n}": text for n, text in enumerate(among)}

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Arrange the pairs as mteb wants them; mteb's arguments make no difference."""
        if self.data_loaded:
            return
        documents, queries = self.document_texts(), self.query_texts()
        of_documents, of_queries = ({text: name for name, text in texts.items()} for texts in (documents, queries))
        self.ignore_identical_ids = True
        relevant: dict[str, dict[str, int]] = {name: {} for name in queries}
        for (query, document), grade in self._grades.items():
            if grade and query != document:
                relevant[of_queries[query]][of_documents[document]] = grade
        self.dataset = arranged(documents, queries, relevant)
        self.data_loaded = True

    def _evaluate_subset(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Let mteb search in blocks: by itself it compares all queries with 50 000 documents at once."""
        if isinstance(model, EncoderProtocol) and not isinstance(model, SearchProtocol):
            model = SearchEncoderWrapper(model, index_backend=_Blocks())
        return super()._evaluate_subset(model, *args, **kwargs)


class _Blocks:
    """The index of mteb's search over a corpus in memory, a block of queries at a time."""

    def add_documents(self, embeddings: Any, idxs: Sequence[str]) -> None:
        self._documents = embeddings

    def search(
        self, embeddings: Any, top_k: int, similarity_fn: Callable[[Any, Any], Any], **kwargs: Any
    ) -> tuple["_Rows", "_Rows"]:
        import torch

        size, top = max(1, BLOCK // len(self._documents)), min(top_k, len(self._documents))
        scores = torch.empty(len(embeddings), top)
        places = torch.empty(len(embeddings), top, dtype=torch.int32)
        for start in range(0, len(embeddings), size):
            block = slice(start, start + size)
            similarity = torch.as_tensor(similarity_fn(embeddings[block], self._documents))
            scores[block], places[block] = torch.topk(similarity, top, dim=1)
        return _Rows(scores), _Rows(places)

    def clear(self) -> None:
        del self._documents


class _Rows:
    """Rows of a tensor, each made a list when it is asked for: all lists at once take ten times the memory."""

    def __init__(self, values: "torch.Tensor") -> None:
        self._values = values

    def __getitem__(self, row: int) -> list[Any]:
        return self._values[row].tolist()


def arranged(
    documents: Mapping[str, str], queries: Mapping[str, str], relevant: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return a corpus, queries (texts by id) and the grades of relevant documents as a retrieval task of mteb holds them."""
    from datasets import Dataset

    from tempscale.evaluation.columns import read_once

    corpus = {"id": list(documents), "title": [""] * len(documents), "text": list(documents.values())}
    return {
        "default": {
            "test": {
                "corpus": read_once(Dataset.from_dict(corpus)),
                "queries": read_once(Dataset.from_dict({"id": list(queries), "text": list(queries.values())})),
                "relevant_docs": relevant,
                "top_ranked": None,
            }
        }
    }


def read_pairs(path: str | Path, **options: Any) -> PairRetrieval:
    """Return the task of a file with the columns (or keys) query and document; named after the file.

    Args:
        path: file with rows and columns, as for `tempscale.read_texts`.
        **options: other names of columns, grades, more documents, the encoding: arguments of
            `tempscale.evaluation.pair_files.read_pair_file`.

    Raises:
        OSError, ValueError: as `read_pair_file` does, or too few queries or documents.
    """
    found = read_pair_file(path, **options)
    stdin = str(path) == "-"
    name = "stdin" if stdin else Path(path).name.removesuffix(".gz")
    origin = (str(path) if stdin else str(Path(path).absolute().resolve()), tuple(sorted(options.items())))
    try:
        return PairRetrieval(found.pairs, documents=found.documents, name=Path(name).stem, origin=origin)
    except ValueError as error:
        raise ValueError(f"{'stdin' if stdin else path} holds {error}") from error


def _revision(packages: Sequence[str]) -> str:
    """Name the versions of the packages, which are the data's revision."""
    known, named = packages_distributions(), []
    for name in packages:
        place = next(([folder] for folder in folders() if Path(folder, name).is_dir()), None)
        if place or name in known:
            found = next(iter(distributions(name=known.get(name, [name])[0], path=place or sys.path)), None)
            named.append(f"{name}-{found.version if found else 'unknown'}")
    return " ".join(named)


class DocstringRetrieval(AbsTaskRetrieval):  # type: ignore[misc]  # mteb is untyped here
    """Find the body of a docstring by its summary, among the bodies of a sample of docstrings.

    The texts are those of `tempscale.docstrings`: pairs of at least 24 tokens whose summary and body no other docstring
    has. Of these a sample is drawn with a fixed seed; each query has one relevant document, and the others' are the rest
    of the corpus. Bodies run from ten to thousands of tokens, half of them to more than about 230. The data change
    with the versions of the packages, which are the revision.

    Args:
        queries: size of the sample, and of the corpus.
        packages: import names of packages.
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
        self.origin = queries, self.packages
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
