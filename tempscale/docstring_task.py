"""A retrieval task that needs no download, as a task of mteb: the summary of a docstring finds its body."""

from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from typing import Any

from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from tempscale.corpus import PACKAGES, docstrings
from tempscale.pairs_task import arranged

# Shorter docstrings hardly say anything beyond their summary.
MIN_TOKENS = 24


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
        **kwargs: as for every task of mteb.

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
        modalities=["text"],
        eval_splits=["test"],
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
