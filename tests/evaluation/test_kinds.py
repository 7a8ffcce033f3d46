"""Every kind of task that mteb has for text runs, and a task that fails does so alone and in one sentence."""

import random

import numpy as np
import pytest

pytest.importorskip("mteb", reason="mteb is not installed: pip install 'tempscale[eval]'")

import mteb
from datasets import Dataset, DatasetDict
from mteb import abstasks
from mteb.abstasks.task_metadata import TaskMetadata
from support.evaluation import WORDS, text, write_model

import tempscale
from tempscale import compare, evaluate
from tempscale.evaluation.evaluate import EvaluationError, PlanError
from tempscale.evaluation.store import Store

RNG = random.Random(0)
TEXTS = [text(RNG, 3 + n % 30) for n in range(60)]
LABELLED = [" ".join(RNG.choices(WORDS[n % 3 :: 3], k=4 + n % 20)) for n in range(60)]
SENTENCES = {"sentence1": TEXTS[:30], "sentence2": TEXTS[30:]}


def retrieval(**more):
    queries = {"id": [f"q{n}" for n in range(12)], "text": [one.split()[0] for one in TEXTS[:12]], **more}
    data = {
        "corpus": Dataset.from_dict({"id": [f"d{n}" for n in range(60)], "title": [""] * 60, "text": TEXTS}),
        "queries": Dataset.from_dict(queries),
        "relevant_docs": {f"q{n}": {f"d{n}": 1} for n in range(12)},
        "top_ranked": None,
    }
    return {"default": {"test": data}}


def reranking(**more):
    found = retrieval(**more)
    found["default"]["test"]["top_ranked"] = {f"q{n}": [f"d{(n + k) % 60}" for k in range(8)] for n in range(12)}
    return found


def splits(train, **columns):
    """Return columns as a split for testing, and for training too."""
    test = Dataset.from_dict(columns)
    return DatasetDict({"train": test, "test": test} if train else {"test": test})


NUMBERS = [n % 3 for n in range(60)]
# Of each type: the class, what it has, the main score, and what its data are.
KINDS = {
    "Retrieval": ("AbsTaskRetrieval", "ndcg_at_10", retrieval),
    "Reranking": ("AbsTaskRetrieval", "map_at_1000", reranking),
    "InstructionRetrieval": (
        "AbsTaskRetrieval",
        "ndcg_at_10",
        lambda: retrieval(instruction=[f"find {n}" for n in range(12)]),
    ),
    "InstructionReranking": (
        "AbsTaskRetrieval",
        "ndcg_at_10",
        lambda: reranking(instruction=[f"find {n}" for n in range(12)]),
    ),
    "STS": ("AbsTaskSTS", "cosine_spearman", lambda: splits(False, **SENTENCES, score=[n % 6 for n in range(30)])),
    "PairClassification": (
        "AbsTaskPairClassification",
        "max_ap",
        lambda: splits(False, **SENTENCES, labels=[n % 2 for n in range(30)]),
    ),
    "BitextMining": ("AbsTaskBitextMining", "f1", lambda: splits(False, **SENTENCES)),
    "Classification": ("AbsTaskClassification", "accuracy", lambda: splits(True, text=LABELLED, label=NUMBERS)),
    "MultilabelClassification": (
        "AbsTaskMultilabelClassification",
        "accuracy",
        lambda: splits(True, text=LABELLED, label=[[n, 3] if n else [n] for n in NUMBERS]),
    ),
    "Regression": (
        "AbsTaskRegression",
        "kendalltau",
        lambda: splits(True, text=TEXTS, value=[n / 7 for n in range(60)]),
    ),
    "Clustering": ("AbsTaskClustering", "v_measure", lambda: splits(False, sentences=LABELLED, labels=NUMBERS)),
    "Clustering (legacy)": (
        "AbsTaskClusteringLegacy",
        "v_measure",
        lambda: splits(False, sentences=[LABELLED[:30], LABELLED[30:]], labels=[NUMBERS[:30], NUMBERS[30:]]),
    ),
    "Summarization": (
        "AbsTaskSummarization",
        "cosine_spearman",
        lambda: splits(
            False,
            text=TEXTS[:6],
            human_summaries=[TEXTS[n : n + 2] for n in range(6)],
            machine_summaries=[TEXTS[n + 10 : n + 14] for n in range(6)],
            relevance=[[1.0, 2.0, 4.0, 3.0 + n] for n in range(6)],
        ),
    ),
}
ITEMS = {
    "Retrieval": (12, "mean"),
    "InstructionRetrieval": (12, "mean"),
    "STS": (30, "spearman"),
    "Classification": (60, "mean"),
    "MultilabelClassification": (60, "mean"),
}


def make(kind, *, name=None, data=None, load=None):
    """Return a task of a kind, of tiny data, or of others."""
    base, main_score, build = KINDS[kind]
    metadata = TaskMetadata(
        name=name or f"Own{kind.split()[0]}",
        description="made up",
        dataset={"path": "made/up", "revision": "1"},
        type=kind.split()[0],
        category="t2t",
        eval_langs=["eng-Latn"],
        eval_splits=["test"],
        main_score=main_score,
    )

    def load_data(self, num_proc=None, **kwargs):
        self.dataset = (load or build)() if data is None else data
        self.data_loaded = True

    more = {"min_score": 0, "max_score": 5} if kind in ("STS", "Summarization") else {}
    return type(
        "Own", (getattr(abstasks, base, None) or _text(base),), {"metadata": metadata, "load_data": load_data, **more}
    )()


def _text(name):
    from mteb.abstasks import clustering_legacy, regression, text

    return next(getattr(module, name) for module in (text, clustering_legacy, regression) if hasattr(module, name))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tempscale.load_model(write_model(tmp_path_factory.mktemp("model")), device="cpu")


def test_there_is_no_other_kind():
    known = {kind.split()[0] for kind in KINDS} | {"Any2AnyRetrieval"}  # a retrieval task by another name
    of_text = [task for task in mteb.get_tasks() if set(task.metadata.modalities) == {"text"}]
    assert {task.metadata.type for task in of_text} <= known


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_of_every_kind_runs(model, kind, tmp_path):
    task = make(kind)
    found = evaluate(model, [task], [1.0, 0.5], out=tmp_path, progress=False)
    assert found.temperature.tolist() == ["1.0", "0.5"]
    assert np.isfinite(found.main_score).all()
    with Store(tmp_path) as store:
        items = [len(store.item_table(unit).scores) for unit in found.id]
    number, statistic = ITEMS.get(kind, (None, None))
    if number is not None:
        assert items == [number] * 2
        assert found.statistic.tolist() == [statistic] * 2
    rows = compare(tmp_path, lengths=False)
    assert np.isclose(rows[rows.scope == "task"].difference.item(), np.diff(found.main_score).item(), atol=1e-5)
    assert list(tmp_path.rglob(f"{task.metadata.name}.json"))


def _raises(error):
    def load():
        raise error

    return load


def _bad(error):
    """A retrieval task whose data are there, and that fails inside mteb."""

    def evaluate_badly(*_, **__):
        raise error

    task = make("Retrieval", name="Bad")
    task._evaluate_subset = evaluate_badly
    return task


NO_GOLD = splits(False, **SENTENCES, score=[None] * 30)
TEXTLESS = splits(False, sentence1=[None] * 30, sentence2=TEXTS[30:], score=[n % 6 for n in range(30)])
FAILURES = {
    "loading": (
        lambda: make("STS", name="Bad", load=_raises(TypeError("no 'split' here"))),
        "Bad: unexpected TypeError",
    ),
    "division": (lambda: _bad(ZeroDivisionError("division by zero")), "Bad: unexpected ZeroDivisionError at "),
    "assertion": (lambda: _bad(AssertionError()), "Bad: unexpected AssertionError at "),
    "full disk": (
        lambda: _bad(OSError(28, "No space left on device", "/cache/a")),
        "Bad: cannot write /cache/a (No space",
    ),
    "value": (lambda: _bad(ValueError("two\nlines")), "cannot use the data of Bad in the hub: two"),
    "stopped": (lambda: _bad(RuntimeError("CUDA error")), "Bad: unexpected RuntimeError at "),
    "no gold": (lambda: make("STS", name="Bad", data=NO_GOLD), "cannot use the data of Bad"),
    "no texts": (lambda: make("STS", name="Bad", data=TEXTLESS), "cannot use the data of Bad"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_task_that_fails_does_so_alone_and_in_one_sentence(model, failure, tmp_path, capfd):
    build, sentence = FAILURES[failure]
    good = make("STS")
    with pytest.raises(EvaluationError) as caught:
        evaluate(model, [build(), good], [1.0, 0.5], out=tmp_path)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
    with Store(tmp_path) as store:
        assert store.units().task.tolist() == ["OwnSTS"] * 2
        assert store._database.execute("SELECT count(*) FROM claim").fetchone() == (0,)
    said = capfd.readouterr().err
    assert said.count("Bad: failed, going on with the rest") == 1
    assert "Traceback" not in said


def test_the_traceback_is_there_for_whoever_asks(model, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TEMPSCALE_TRACEBACK", "1")
    with pytest.raises(EvaluationError, match="TEMPSCALE_TRACEBACK=1 shows where it comes from"):
        evaluate(model, [_bad(ZeroDivisionError("division by zero"))], [1.0], out=tmp_path)
    assert "in evaluate_badly" in capfd.readouterr().err


def test_memory_that_is_not_enough_ends_all(model, tmp_path):
    with pytest.raises(MemoryError, match="not even one text"):
        evaluate(model, [_bad(MemoryError("not even one text fits"))], [1.0], out=tmp_path)


def test_a_score_that_is_not_defined_is_said_and_left_out(model, tmp_path, capfd):
    """All gold scores are equal: nothing ranks like them."""
    constant = make("STS", name="Constant", data=splits(False, **SENTENCES, score=[3] * 30))
    found = evaluate(model, [constant, make("STS"), make("Retrieval")], [1.0, 0.5], out=tmp_path)
    assert found.main_score.isna().tolist() == [True, True, False, False, False, False]
    said = capfd.readouterr().err
    assert said.count("Constant test at 0.5: cosine_spearman not defined: NaN, as where all gold scores are equal") == 1
    with pytest.warns(UserWarning, match=r"^not defined, and left out of the means over tasks: Constant at 0\.5; "):
        rows = compare(tmp_path, lengths=False)
    assert rows[rows.task == "Constant"].difference.isna().tolist() == [True]
    overall, tasks = rows[rows.scope == "overall"], rows[(rows.scope == "task") & (rows.task != "Constant")]
    assert np.isclose(overall.difference.item(), tasks.difference.mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("STS12", 0.9), r"temperatures must be a list such as \[1\.0, 0\.9\], not 0\.9"),
        (("STS12", "0.9"), r"temperatures must be a list such as \[1\.0, 0\.9\], not '0\.9'"),
        (("STS12", tempscale.LogLength(8)), r"temperatures must be a list such as .*, not LogLength\("),
        ((7, [0.9]), r"tasks must be a list such as \['STS12', 'SciFact'\], not 7"),
    ],
)
def test_one_where_several_are_expected(model, arguments, message, tmp_path):
    with pytest.raises(PlanError, match=message):
        evaluate(model, *arguments, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
