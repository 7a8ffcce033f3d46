"""Tasks that need no download, through mteb: their data against their sources, their scores against plain NumPy."""

import json

import numpy as np
import pytest
import scipy
from typer.testing import CliRunner

pytest.importorskip("mteb")

import mteb
from mteb.models import ModelMeta, SentenceTransformerEncoderWrapper

from tempscale import docstrings
from tempscale.cli.app import app
from tempscale.evaluation import own_tasks
from tempscale.evaluation.own_tasks import MIN_TOKENS, DocstringRetrieval, PairRetrieval, read_pairs
from tempscale.evaluation.store import Store
from tempscale.evaluation.tasks import find_parts


@pytest.fixture(scope="module")
def task():
    task = DocstringRetrieval(queries=80, packages=["numpy"])
    task.load_data()
    return task


def test_queries_are_summaries_and_documents_bodies(task):
    texts = docstrings(["numpy"]).set_index("name")
    data = task.dataset["default"]["test"]
    assert len(data["queries"]) == len(data["corpus"]) == 80
    bodies = dict(zip(data["corpus"]["id"], data["corpus"]["text"], strict=True))
    for query, text in zip(data["queries"]["id"], data["queries"]["text"], strict=True):
        ((document, relevance),) = data["relevant_docs"][query].items()
        assert (texts.summary[document], texts.body[document], relevance) == (text, bodies[document], 1)
    assert texts.loc[data["corpus"]["id"]].pair.all()
    assert texts.loc[data["corpus"]["id"]].tokens.min() >= MIN_TOKENS
    assert not set(data["queries"]["id"]) & set(data["corpus"]["id"]), "mteb may drop a document with the query's name"


def test_the_sample_is_fixed(task):
    again = DocstringRetrieval(queries=80, packages=["numpy"], seed=7)
    again.load_data()
    assert again.dataset["default"]["test"]["queries"]["id"] == task.dataset["default"]["test"]["queries"]["id"]


def test_metadata_are_complete_and_name_the_versions(task):
    assert DocstringRetrieval.metadata.is_filled()
    assert task.metadata.dataset["revision"] == f"numpy-{np.__version__}"
    assert f"numpy-{np.__version__}" in DocstringRetrieval.metadata.dataset["revision"], "of the class: all packages"
    assert "torch-" in DocstringRetrieval.metadata.dataset["revision"]


def test_the_revision_is_that_of_the_docstrings_which_are_read(tmp_path, monkeypatch):
    (tmp_path / "numpy-0.1.dist-info").mkdir()
    (tmp_path / "numpy-0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.1\n", "utf-8")
    monkeypatch.setenv("TEMPSCALE_DOCSTRINGS", str(tmp_path))

    def revision(**packages):
        return DocstringRetrieval(queries=80, **packages).metadata.dataset["revision"]

    here = f"numpy-{np.__version__} scipy-{scipy.__version__}"
    assert revision(packages=["numpy", "scipy"]) == here, "there is no numpy in the folder"
    (tmp_path / "numpy").mkdir()
    assert revision(packages=["numpy", "scipy"]) == f"numpy-0.1 scipy-{scipy.__version__}"
    assert "numpy-0.1 " in revision()
    (tmp_path / "other").mkdir()
    assert revision(packages=["other"]) == "other-unknown"


def test_it_resolves_by_name():
    (part,) = find_parts(["DocstringRetrieval"], None)
    assert isinstance(part.task, DocstringRetrieval)
    assert (part.split, part.subset, part.has_sides) == ("test", "default", True)


def score_by_numpy(task, model):
    """One relevant document a query, in the same order: nDCG is 1 / log2(1 + its rank), up to rank 10."""
    data = task.dataset["default"]["test"]
    queries, documents = model.encode(list(data["queries"]["text"])), model.encode(list(data["corpus"]["text"]))
    similarity = queries @ documents.T
    rank = (similarity > np.diag(similarity)[:, None]).sum(axis=1) + 1
    return np.where(rank <= 10, 1 / np.log2(1 + rank), 0).mean()


# mteb 2.26 uses a parameter of its own that it deprecates, and a method that sentence-transformers does.
@pytest.mark.filterwarnings("ignore:The `get_sentence_embedding_dimension` method:FutureWarning")
@pytest.mark.filterwarnings("ignore:The fill_missing parameter is deprecated:DeprecationWarning")
def test_score_is_that_of_plain_numpy(task, shallow):
    result = mteb.evaluate(
        SentenceTransformerEncoderWrapper(shallow), task, cache=None, encode_kwargs={"show_progress_bar": False}
    )
    assert abs(result.task_results[0].get_score() - score_by_numpy(task, shallow)) < 1e-4


def test_a_real_model_finds_many_documents_but_not_all(task, minilm):
    assert 0.3 < score_by_numpy(task, minilm) < 0.95


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


def test_score_of_a_file_is_that_of_plain_numpy(tmp_path, pairs, shallow, shallow_folder):
    file, out = written(tmp_path / "mine.jsonl", pairs), tmp_path / "out"
    command = ["evaluate", shallow_folder, "--tasks", str(file), "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    queries, documents = (shallow.encode(list(side)) for side in zip(*pairs, strict=True))
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


def test_rows_without_a_query_are_documents_to_choose_from(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("query,document,note\n" + "".join(f"q{n},d{n},\n" for n in range(10)) + "q,,\n,d,\n")
    with pytest.warns(UserWarning, match=r"mine.csv: 1 of 12 rows have no document and are left out"):
        task = read_pairs(file)
    task.load_data()
    data = task.dataset["default"]["test"]
    assert (len(task.pairs), len(data["queries"]), len(data["corpus"])) == (10, 10, 11)
    assert data["corpus"]["text"][-1] == "d"
    assert task.metadata.name == "mine"


def of_index(task, vectors):
    """Return the score of a task where texts have given vectors, by mteb."""

    class Model:
        mteb_model_meta = ModelMeta.create_empty({"name": "tests/vectors", "revision": "1"})

        def encode(self, inputs, **kwargs):
            return np.stack([vectors[text] for text in inputs.dataset["text"]])

        def similarity(self, one, other):
            return one @ other.T

        def similarity_pairwise(self, one, other):
            return (one * other).sum(1)

    return mteb.evaluate(Model(), task, cache=None, co2_tracker=False).task_results[0].scores["test"][0]


def vectors_of(texts, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(len(texts), 8)).astype(np.float32)
    return dict(zip(texts, drawn / np.linalg.norm(drawn, axis=1, keepdims=True), strict=True))


@pytest.mark.filterwarnings("ignore:The fill_missing parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("block", [1, 100, 2**25])
def test_grades_and_distractors_against_numpy(monkeypatch, block):
    """nDCG@10 with gains that are the grades; documents of grade 0, and those without a query, are in the way."""
    monkeypatch.setattr(own_tasks, "BLOCK", block)
    rng = np.random.default_rng(1)
    grades = {(f"q{n}", f"d{rng.integers(30)}"): int(rng.integers(0, 3)) for n in range(20) for _ in range(4)}
    grades |= {(f"q{n}", f"d{n}"): 1 for n in range(20)}
    others = [f"other {n}" for n in range(25)]
    pairs = [(query, document, grade) for (query, document), grade in grades.items()]
    documents = [*dict.fromkeys(document for _, document in grades), *others]
    vectors = vectors_of([*(f"q{n}" for n in range(20)), *documents])
    expected = []
    for query in (f"q{n}" for n in range(20)):
        order = sorted(documents, key=lambda text: -float(vectors[query] @ vectors[text]))[:10]
        gains = [grades.get((query, text), 0) for text in order]
        ideal = sorted((grade for (one, _), grade in grades.items() if one == query), reverse=True)[:10]
        discount = 1 / np.log2(np.arange(2, 12))
        expected.append(np.dot(gains, discount) / np.dot(ideal, discount[: len(ideal)]))
    found = of_index(PairRetrieval(pairs, documents=others), vectors)
    assert found["ndcg_at_10"] == pytest.approx(np.mean(expected), abs=2e-5)
    assert "recall_at_20" in found


@pytest.mark.filterwarnings("ignore:The fill_missing parameter is deprecated:DeprecationWarning")
def test_a_query_does_not_find_itself():
    texts = [f"text {n}" for n in range(20)]
    vectors = {text: np.eye(12, dtype=np.float32)[n // 2] + 0.1 * (n % 2) for n, text in enumerate(texts)}
    pairs = [(text, texts[n ^ 1]) for n, text in enumerate(texts)]
    assert of_index(PairRetrieval(pairs), vectors)["ndcg_at_1"] == 1, "each is nearest to itself and its partner"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("q0", "d0", 2), "the grades 1 and 2 for one pair, of the query 'q0': give it one grade"),
        (("q0", "d1", -1), "the grade -1 for the query 'q0': expected a whole number from 0 up"),
        (("q0", "d1", 0.5), "the grade 0.5 for the query 'q0'"),
    ],
)
def test_grades_that_are_none(extra, message):
    with pytest.raises(ValueError, match=message):
        PairRetrieval([*((f"q{n}", f"d{n}") for n in range(10)), extra])


def test_queries_without_a_relevant_document_do_not_count():
    with pytest.raises(
        ValueError, match="9 different queries with 11 different documents: expected at least 10 queries"
    ):
        PairRetrieval([*((f"q{n}", f"d{n}", 1) for n in range(9)), ("q9", "d9", 0), ("d10", "d10", 1)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query,document\nq,d\n", "1 different queries with 1 different documents: expected at least 10 queries"),
        ("query,text\nq,d\n", "has no column 'document': its columns are 'query', 'text'"),
        ("", "has no rows"),
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


def test_the_command_takes_columns_grades_and_a_corpus(tmp_path, pairs, shallow_folder):
    """One run with every option: the texts are those of a plain file with more documents, by the hash of the data."""
    more, folder = [f"Something else, number {n}." for n in range(5)], tmp_path
    (folder / "corpus.txt").write_text("\n".join(more))
    plain = [(one.replace('"', "'"), other.replace('"', "'").strip()) for one, other in pairs]
    graded = [(query, text, 2 * (n < 30)) for n, (query, text) in enumerate(plain)]
    rows = [f'"{query}";"{text}";{grade}' for query, text, grade in graded]
    (folder / "a,b.csv").write_bytes("\n".join(["frage;antwort;note", *rows]).encode("utf-16"))
    options = ["--query-column", "frage", "--document-column", "antwort", "--relevance-column", "note", "--documents"]
    command = [
        "evaluate",
        shallow_folder,
        "--tasks",
        str(folder / "a,b.csv"),
        "--out",
        str(folder / "out"),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(app, [*command, *options, str(folder / "corpus.txt")])
    assert result.exit_code == 0, result.output
    assert "a,b.csv: read as UTF-16; separated by semicolons" in result.stderr
    (part,) = find_parts([PairRetrieval(graded, documents=more)], None)
    with Store(folder / "out") as store:
        (unit,) = store.units().itertuples()
        assert (unit.task, unit.data_hash, len(store.items(unit.id))) == ("a,b", part.data_hash, 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--tasks", "STS12", "--query-column", "q"],
            "--query-column 'q' is for a file of your own: name one with --tasks",
        ),
        (["--tasks", "STS12", "--documents", "c.txt"], "--documents 'c.txt' is for a file of your own"),
        (
            ["--tasks", "-", "--engine", "ray"],
            "--tasks -: the workers of a Ray cluster cannot read this stdin; name a file",
        ),
        (["--tasks", "mine.csv", "--documents", "none.txt"], "cannot read none.txt: no such file"),
        (["--tasks", "mine.csv", "--encoding", "latin-77"], "unknown encoding 'latin-77'"),
        (
            ["--tasks", "mine.csv", "--relevance-column", "n"],
            "mine.csv has no column 'n': its columns are 'query', 'document'",
        ),
    ],
)
def test_options_that_cannot_be(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("query,document\n" + "".join(f"q{n},d{n}\n" for n in range(10)))
    result = CliRunner().invoke(app, ["evaluate", "minilm", "--out", "out", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()
