"""The docstring task, through mteb: its data against the docstrings, its score against plain NumPy."""

import numpy as np
import pytest

pytest.importorskip("mteb")

import mteb
from mteb.models import SentenceTransformerEncoderWrapper

from tempscale import docstrings
from tempscale.evaluation.own_tasks import MIN_TOKENS, DocstringRetrieval
from tempscale.evaluation.tasks import find_parts


@pytest.fixture(scope="module")
def task():
    task = DocstringRetrieval(queries=150, packages=["numpy"])
    task.load_data()
    return task


def test_queries_are_summaries_and_documents_bodies(task):
    texts = docstrings(["numpy"]).set_index("name")
    data = task.dataset["default"]["test"]
    assert len(data["queries"]) == len(data["corpus"]) == 150
    bodies = dict(zip(data["corpus"]["id"], data["corpus"]["text"], strict=True))
    for query, text in zip(data["queries"]["id"], data["queries"]["text"], strict=True):
        ((document, relevance),) = data["relevant_docs"][query].items()
        assert (texts.summary[document], texts.body[document], relevance) == (text, bodies[document], 1)
    assert texts.loc[data["corpus"]["id"]].pair.all()
    assert texts.loc[data["corpus"]["id"]].tokens.min() >= MIN_TOKENS
    assert not set(data["queries"]["id"]) & set(data["corpus"]["id"]), "mteb may drop a document with the query's name"


def test_the_sample_is_fixed(task):
    again = DocstringRetrieval(queries=150, packages=["numpy"], seed=7)
    again.load_data()
    assert again.dataset["default"]["test"]["queries"]["id"] == task.dataset["default"]["test"]["queries"]["id"]


def test_metadata_are_complete_and_name_the_versions(task):
    assert DocstringRetrieval.metadata.is_filled()
    assert task.metadata.dataset["revision"] == f"numpy-{np.__version__}"
    assert f"numpy-{np.__version__}" in DocstringRetrieval.metadata.dataset["revision"], "of the class: all packages"
    assert "torch-" in DocstringRetrieval.metadata.dataset["revision"]


def test_it_resolves_by_name():
    (part,) = find_parts(["DocstringRetrieval"], None)
    assert isinstance(part.task, DocstringRetrieval)
    assert (part.split, part.subset, part.has_sides) == ("test", "default", True)


# mteb 2.26 uses a parameter of its own that it deprecates, and a method that sentence-transformers does.
@pytest.mark.filterwarnings("ignore:The `get_sentence_embedding_dimension` method:FutureWarning")
@pytest.mark.filterwarnings("ignore:The fill_missing parameter is deprecated:DeprecationWarning")
def test_score_is_that_of_plain_numpy(task, minilm):
    result = mteb.evaluate(
        SentenceTransformerEncoderWrapper(minilm), task, cache=None, encode_kwargs={"show_progress_bar": False}
    )
    data = task.dataset["default"]["test"]
    queries, documents = minilm.encode(list(data["queries"]["text"])), minilm.encode(list(data["corpus"]["text"]))
    similarity = queries @ documents.T
    # one relevant document a query, in the same order: nDCG is 1 / log2(1 + its rank), up to rank 10
    rank = (similarity > np.diag(similarity)[:, None]).sum(axis=1) + 1
    expected = np.where(rank <= 10, 1 / np.log2(1 + rank), 0).mean()
    assert 0.3 < expected < 0.95
    assert abs(result.task_results[0].get_score() - expected) < 1e-4


def test_too_few_docstrings():
    task = DocstringRetrieval(queries=10**6, packages=["numpy"])
    with pytest.raises(
        ValueError, match=r"docstrings of numpy are pairs .* fewer than the 1000000 queries asked for: ask"
    ):
        task.load_data()
    assert not task.data_loaded
