"""One's own pairs as a retrieval task: its score against plain NumPy, through the command line too."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("mteb")

from tempscale import docstrings
from tempscale.cli.app import app
from tempscale.evaluation.own_tasks import PairRetrieval, read_pairs
from tempscale.evaluation.store import Store


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
