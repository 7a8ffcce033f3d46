"""Tasks that need no download, through mteb: their data against their sources, their scores against plain NumPy."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("mteb")

import mteb
from mteb.models import SentenceTransformerEncoderWrapper

from tempscale import docstrings
from tempscale.cli.app import app
from tempscale.evaluation.own_tasks import MIN_TOKENS, DocstringRetrieval, PairRetrieval, read_pairs
from tempscale.evaluation.store import Store
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


@pytest.fixture(scope="module")
def pairs():
    texts = docstrings(["numpy"], min_tokens=24)
    some = texts[texts.pair].sample(40, random_state=1)
    return [(summary, body[:300]) for summary, body in zip(some.summary, some.body, strict=True)]


def written(path, pairs):
    path.write_text("".join(json.dumps({"query": query, "document": text}) + "\n" for query, text in pairs))
    return path


def test_score_of_a_file_is_that_of_plain_numpy(tmp_path, pairs, minilm):
    file, out = written(tmp_path / "mine.jsonl", pairs), tmp_path / "out"
    result = CliRunner().invoke(app, ["evaluate", "minilm", "--tasks", str(file), "--out", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    queries, documents = (minilm.encode(list(side)) for side in zip(*pairs, strict=True))
    similarity = queries @ documents.T
    rank = 1 + (similarity > np.diag(similarity)[:, None]).sum(1)
    with Store(out) as store:
        (unit,) = store.units().itertuples()
    assert (unit.task, unit.metric) == ("mine", "ndcg_at_10")
    assert unit.data_version == f"given {unit.data_hash}"
    assert unit.main_score == pytest.approx(np.where(rank <= 10, 1 / np.log2(1 + rank), 0).mean(), abs=2e-5)


def test_equal_queries_and_documents_are_one():
    task = PairRetrieval([*((f"q{n}", f"d{n}") for n in range(10)), ("q0", "d1"), ("q0", "d1")])
    task.load_data()
    data = task.dataset["default"]["test"]
    assert (len(data["queries"]), len(data["corpus"])) == (10, 10)
    assert data["relevant_docs"]["query 0"] == {"document 0": 1, "document 1": 1}


def test_rows_without_a_text_are_left_out(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("query,document,note\n" + "".join(f"q{n},d{n},\n" for n in range(10)) + "q,,\n,d,\n")
    task = read_pairs(file)
    assert len(task.pairs) == 10
    assert task.metadata.name == "mine"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query,document\nq,d\n", "1 different queries with 1 different documents: expected at least 10 queries"),
        ("query,text\nq,d\n", "has no column 'document': its columns are query, text"),
        ("", "is empty"),
    ],
)
def test_bad_files_are_refused_before_anything_runs(tmp_path, content, message):
    file, out = tmp_path / "mine.csv", tmp_path / "out"
    file.write_text(content)
    result = CliRunner().invoke(app, ["evaluate", "minilm", "--tasks", str(file), "--out", str(out)])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not out.exists()


def test_a_missing_file_is_one_sentence(tmp_path):
    result = CliRunner().invoke(
        app, ["evaluate", "minilm", "--tasks", str(tmp_path / "no.csv"), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 2
    assert "no such file" in result.stderr
