"""evaluate: the scores are mteb's own, item by item, and are kept whatever happens."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

mteb = pytest.importorskip("mteb", reason="mteb is not installed: pip install 'tempscale[eval]'")

import datasets  # noqa: E402
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402
from support.evaluation import TASKS, WORDS, scores, write_model  # noqa: E402
from support.process import run_program  # noqa: E402

import tempscale  # noqa: E402
from tempscale import LengthRule, LogLength, PerLayer, RateMatched, evaluate, patch  # noqa: E402
from tempscale.encoding.encoder import Encoder  # noqa: E402
from tempscale.evaluation.evaluate import EvaluationError, PlanError  # noqa: E402
from tempscale.evaluation.identity import model_hash, prompts_of  # noqa: E402
from tempscale.evaluation.item_scores import _clusters, _pair_ids  # noqa: E402
from tempscale.evaluation.store import MEASURED, UNIT, Measured, Store, Unit  # noqa: E402
from tempscale.evaluation.tasks import find_parts  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:mteb"),
    pytest.mark.usefixtures("own_cache"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def out(model, data, tmp_path_factory):
    """Return the folder of a finished evaluation."""
    folder = tmp_path_factory.mktemp("out")
    evaluate(model, TASKS, [1.0, 0.5], out=folder, data_dir=data, progress=False)
    return folder


def loaded(name, data):
    (part,) = find_parts([name], data)
    part.load()
    return part.fresh()


def by_mteb(encoder, task):
    """Return a main score as mteb computes it from an encoder, without our store."""
    result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
    return result.task_results[0].main_score


class OneSide(SentenceTransformerEncoderWrapper):
    """A patch that is on for one side only."""

    def __init__(self, model, active, side, temperature):
        super().__init__(model)
        self.active, self.side, self.patched_temperature = active, side, temperature

    def encode(self, inputs, *, prompt_type=None, **kwargs):
        self.active.temperature = self.patched_temperature if prompt_type == self.side else 1.0
        return super().encode(inputs, prompt_type=prompt_type, **kwargs)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_scores_are_those_of_mteb_and_sentence_transformers(out, model, data, name, temperature):
    plain = tempscale.load_model(model, device="cpu")
    with patch(plain, temperature):
        expected = by_mteb(SentenceTransformerEncoderWrapper(plain), loaded(name, data))
    with Store(out) as store:
        units = store.units()
    (unit,) = units[(units.task == name) & (units.temperature == str(temperature))].to_dict("records")
    assert unit["main_score"] == pytest.approx(expected, abs=1e-5)
    others = units[(units.task == name) & (units.temperature != str(temperature))]
    assert abs(others.main_score.item() - expected) > 1e-3, "the temperature matters here"


@pytest.mark.parametrize(
    ("temperature", "label"),
    [
        (LogLength(8, temperature=0.7), "LogLength(reference_length=8, temperature=0.7, exponent=1.0)"),
        (PerLayer({-1: 0.4}), "PerLayer({-1: 0.4})"),
        (LengthRule(8, 2.0), "LengthRule(reference_length=8, logit_std=2.0, temperature=1.0)"),
        (RateMatched(6, [12, 24], [[0.7, 0.5], [0.8, 0.6], [1.4, 2.0]]), "RateMatched("),
        (lambda lengths: 1 - 0.4 * (lengths > 10), "<lambda>#"),
    ],
)
def test_schedules(model, data, temperature, label, tmp_path):
    plain = tempscale.load_model(model, device="cpu")
    with patch(plain, temperature):
        expected = by_mteb(SentenceTransformerEncoderWrapper(plain), loaded("STSBenchmark", data))
    found = evaluate(plain, "STSBenchmark", [temperature], out=tmp_path, data_dir=data, progress=False)
    assert found.main_score.item() == pytest.approx(expected, abs=1e-5)
    assert found.temperature.item().startswith(label)


@pytest.mark.parametrize("side", ["document", "query"])
def test_one_side(model, data, side, tmp_path):
    plain = tempscale.load_model(model, device="cpu")
    found = evaluate(plain, "SciFact", [1.0, 0.4], out=tmp_path, data_dir=data, apply_to=side, progress=False)
    with patch(plain, 0.4, layers=None) as active:
        expected = by_mteb(OneSide(plain, active, side, 0.4), loaded("SciFact", data))
        both = by_mteb(SentenceTransformerEncoderWrapper(plain), loaded("SciFact", data))
    assert found.apply_to.tolist() == ["both", side], "at temperature 1 there are no sides"
    assert found.main_score[1] == pytest.approx(expected, abs=1e-5)
    assert abs(expected - both) > 1e-3


def test_some_layers(model, data, tmp_path):
    plain = tempscale.load_model(model, device="cpu")
    with patch(plain, 0.4, layers=slice(-2, None)):
        expected = by_mteb(SentenceTransformerEncoderWrapper(plain), loaded("STSBenchmark", data))
    found = evaluate(plain, "STSBenchmark", [0.4], out=tmp_path, data_dir=data, layers="last:2", progress=False)
    assert found.main_score.item() == pytest.approx(expected, abs=1e-5)
    assert found.layers.item() == "last:2"


def test_prompts_of_the_model_are_used(data, tmp_path):
    prompts = {"query": f"{WORDS[0]}: ", "document": f"{WORDS[1]}: ", "STS": f"{WORDS[2]}: "}
    path = write_model(tmp_path / "prompted", prompts=prompts)
    plain = tempscale.load_model(path, device="cpu")
    found = (
        evaluate(path, TASKS, [1.0], out=tmp_path / "out", data_dir=data, progress=False).set_index("task").main_score
    )
    bare = tempscale.load_model(path, device="cpu")
    bare.prompts = {}
    without = (
        evaluate(bare, TASKS, [1.0], out=tmp_path / "out", data_dir=data, progress=False).set_index("task").main_score
    )
    with Store(tmp_path / "out") as store:
        kept = store.units().groupby("task").prompts.apply(lambda both: [json.loads(prompts) for prompts in both])
    query, document, sts = prompts.values()
    assert kept["SciFact"] == [{"query": query, "document": document}, {"query": "", "document": ""}]
    assert kept["STSBenchmark"] == [{"text": sts}, {"text": ""}]
    assert kept["Banking77Classification"] == [{"text": ""}, {"text": ""}]
    for name in TASKS:
        expected = by_mteb(SentenceTransformerEncoderWrapper(plain), loaded(name, data))
        assert found[name] == pytest.approx(expected, abs=1e-5)
        assert (abs(found[name] - without[name]) > 1e-3) == (name != "Banking77Classification")


def test_a_local_copy_does_not_lose_the_prompts_of_its_authors(tmp_path):
    named = Path(write_model(tmp_path)).rename(tmp_path / "intfloat_e5-base-v2")
    model = tempscale.load_model(str(named), device="cpu")
    assert not any(model.prompts.values())
    prompts = prompts_of(model, str(named))
    assert (prompts["query"], prompts["document"], prompts["STS"]) == ("query: ", "passage: ", "query: ")
    assert model_hash(model, prompts) != model_hash(model, {})


def test_items_of_retrieval_are_the_queries(out, data):
    with Store(out) as store:
        units = store.units().query("task == 'SciFact' and temperature == '0.5'")
        items = store.items(units.id.item()).set_index("item")
    assert (units.metric.item(), units.statistic.item()) == ("ndcg_at_10", "mean")
    assert items.score.mean() == pytest.approx(units.main_score.item(), abs=1e-5)
    corpus = pd.read_parquet(f"{data}/SciFact/corpus.parquet").set_index("_id")
    words = (corpus.title + " " + corpus.text).str.split().str.len()
    assert len(items) == 30
    assert items.tokens["q5"] == words["d5"] + 2, "a token a word, and two special ones"
    assert items.tokens["q0"] == round((words["d0"] + words["d3"]) / 2) + 2, "the mean of the relevant documents"
    assert words.max() > 64, "longer than the model reads"
    assert items.target.isna().all()


def test_items_of_retrieval_have_the_score_by_the_definition_of_ndcg(out, model, data):
    plain = tempscale.load_model(model, device="cpu")
    folder = Path(data) / "SciFact"
    corpus, queries, relevant = (pd.read_parquet(folder / f"{name}.parquet") for name in ("corpus", "queries", "qrels"))
    with patch(plain, 0.5):
        similarity = plain.similarity(
            plain.encode(queries.text.tolist()), plain.encode((corpus.title + " " + corpus.text).tolist())
        ).numpy()
    with Store(out) as store:
        unit = store.units().query("task == 'SciFact' and temperature == '0.5'").id.item()
        items = store.items(unit).set_index("item").score
    for row, query in enumerate(queries["_id"]):
        of_query = relevant[relevant["query-id"] == query].set_index("corpus-id").score
        ranked = corpus["_id"].to_numpy()[np.argsort(-similarity[row])][:10]
        gains = np.array([of_query.get(document, 0) for document in ranked])
        ideal = np.sort(of_query.to_numpy())[::-1]
        discount = 1 / np.log2(np.arange(2, 12))
        assert items[query] == pytest.approx(gains @ discount / (ideal @ discount[: len(ideal)]), abs=1e-6)


def test_queries_are_clustered_by_the_documents_they_share():
    relevant = {"a": ["1"], "b": ["2", "3"], "c": ["3", "4"], "d": ["4"], "e": ["5"], "f": []}
    a, b, c, d, e, f = _clusters(relevant)
    assert b == c == d, "directly, or through others"
    assert len({a, b, e, f}) == 4


def test_items_of_sts_are_the_pairs(out, model, data):
    pairs = pd.read_parquet(f"{data}/STSBenchmark/test.parquet")
    plain = tempscale.load_model(model, device="cpu")
    with patch(plain, 0.5):
        first, second = (plain.encode(pairs[name].tolist()) for name in ("sentence1", "sentence2"))
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    with Store(out) as store:
        units = store.units().query("task == 'STSBenchmark' and temperature == '0.5'")
        items = store.items(units.id.item())
    np.testing.assert_allclose(items.score, cosine, atol=1e-5)
    np.testing.assert_allclose(items.target, pairs.score)
    longer = np.maximum(pairs.sentence1.str.split().str.len(), pairs.sentence2.str.split().str.len()) + 2
    assert items.tokens.tolist() == longer.tolist()
    assert units.statistic.item() == "spearman"
    assert spearmanr(items.score, items.target).statistic == pytest.approx(units.main_score.item(), abs=1e-9)


def test_sentences_of_a_pair_have_the_ids_that_the_sentences_have(out, data):
    """Without columns that name them: equal ids where the sentences are equal, and nowhere else."""
    pairs = pd.read_parquet(f"{data}/STSBenchmark/test.parquet")
    with Store(out) as store:
        items = store.items(store.units().query("task == 'STSBenchmark' and temperature == '0.5'").id.item())
    ids = items.texts.str.split(" ").explode().to_numpy()
    sentences = pairs[["sentence1", "sentence2"]].to_numpy().ravel()
    assert len(ids) == len(sentences) == 80
    assert ((ids[:, None] == ids) == (sentences[:, None] == sentences)).all()
    assert len(set(sentences)) < 80, "some pairs are of one sentence"
    assert items.source.isna().all()


def test_ids_that_do_not_name_texts_are_not_taken():
    first, second = ["x", "y"], ["y", "z"]
    hashed = _pair_ids({}, first, second)
    assert _pair_ids({"id1": [1, 2], "id2": [2, 3]}, first, second) == ["1 2", "2 3"]
    for numbered in ([1, 2], [1, 2]), ([None, None], [1, 2]), (["", 1], [1, 2]), ([1], [2]):
        assert _pair_ids(dict(zip(("id1", "id2"), numbered, strict=True)), first, second) == hashed
    assert _pair_ids({"id1": [1, 2], "sid1": ["a", "b"], "sid2": ["b", "c d"]}, first, second) == ["a b", "b c_d"]


def test_collections_and_ids_are_taken_from_the_columns_of_the_data(model, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")

    def add_columns(path, **columns):
        rows = pd.read_parquet(folder / path)
        rows.assign(**{name: make(rows) for name, make in columns.items()}).to_parquet(folder / path, index=False)

    sentences = {}
    number = {
        name: lambda rows, name=name: [f"s{sentences.setdefault(t, len(sentences))}" for t in rows[name]]
        for name in ("sentence1", "sentence2")
    }
    add_columns(
        "STSBenchmark/test.parquet",
        genre=lambda rows: "news",
        dataset=lambda rows: [["headlines", "images", None][row % 3] for row in range(len(rows))],
        sid1=number["sentence1"],
        sid2=number["sentence2"],
    )
    add_columns("SciFact/queries.parquet", domain=lambda rows: "of " + rows["_id"])
    for split in ("train", "test"):
        add_columns(f"Banking77Classification/{split}.parquet", source=lambda rows: range(len(rows)))
    found = evaluate(model, TASKS, [1.0], out=tmp_path / "out", data_dir=folder, progress=False)
    with Store(tmp_path / "out") as store:
        pairs, queries, rows = map(store.items, found.id)
    assert pairs.source.fillna("").tolist() == (["headlines", "images", ""] * 14)[:40]
    given = pd.read_parquet(folder / "STSBenchmark/test.parquet")
    assert pairs.texts.tolist() == (given.sid1 + " " + given.sid2).tolist()
    assert queries.source.tolist() == ("of " + queries.item).tolist()
    assert len(set(queries.source)) == 30
    assert rows.source.tolist() == [str(row) for row in range(36)]
    assert queries.texts.isna().all()
    assert rows.texts.isna().all()


def test_items_of_classification_are_the_rows(out, data):
    with Store(out) as store:
        (unit,) = store.units().query("task == 'Banking77Classification' and temperature == '0.5'").to_dict("records")
        items = store.items(unit["id"])
    rows = pd.read_parquet(f"{data}/Banking77Classification/test.parquet")
    assert items.tokens.tolist() == (rows.text.str.split().str.len() + 2).tolist()
    assert (unit["metric"], unit["statistic"]) == ("accuracy", "mean")
    assert items.score.mean() == pytest.approx(unit["main_score"], abs=1e-9)
    assert set((items.score * 10).round(9) % 1) == {0}, "ten experiments"


def test_finished_units_are_not_run_again(out, model, data, monkeypatch):
    with Store(out) as store:
        before = store.units()

    def forward(*_):
        raise AssertionError("a finished unit was run again")

    monkeypatch.setattr(Encoder, "_forward", forward)
    again = evaluate(model, TASKS, [0.5, 1.0], out=out, data_dir=data, progress=False)
    with Store(out) as store:
        pd.testing.assert_frame_equal(store.units(), before)
    assert again.temperature.tolist() == ["0.5", "1.0"] * 3, "in the order asked for"


def test_what_was_finished_in_version_2_is_not_run_again(out, model, data, write_2, monkeypatch, tmp_path):
    with Store(out) as store:
        before = store.units()
        write_2(
            tmp_path,
            [
                (
                    Unit(**{name: unit[name] for name in UNIT}),
                    Measured(**{name: unit[name] for name in MEASURED}),
                    store._items(unit["id"]),
                )
                for unit in before.to_dict("records")
            ],
        )

    def forward(*_):
        raise AssertionError("a finished unit was run again")

    monkeypatch.setattr(Encoder, "_forward", forward)
    again = evaluate(model, TASKS, [0.5, 1.0], out=tmp_path, data_dir=data, progress=False)
    assert sorted(again.id) == sorted(before.id)
    assert sorted(again.main_score) == sorted(before.main_score)


def test_changed_data_are_another_unit_and_are_read_anew(model, data, tmp_path, monkeypatch):
    folder = shutil.copytree(data, tmp_path / "data")
    arguments = {"out": tmp_path / "out", "data_dir": folder, "progress": False}
    first = evaluate(model, "STSBenchmark", [1.0], **arguments)
    path = folder / "STSBenchmark" / "test.parquet"
    modified = path.stat()
    pairs = pd.read_parquet(path)
    pairs.assign(score=pairs.score[::-1].to_numpy()).to_parquet(path, index=False)
    os.utime(path, ns=(modified.st_atime_ns, modified.st_mtime_ns))
    code = (
        "import sys, tempscale; print(tempscale.evaluate(sys.argv[1], 'STSBenchmark', [1.0], out=sys.argv[2], "
        "data_dir=sys.argv[3], progress=False).main_score.item())"
    )
    # A process of its own, as after an edit, and the same cache.
    monkeypatch.setenv("HF_DATASETS_CACHE", str(datasets.config.HF_DATASETS_CACHE))
    result = run_program(code, model, tmp_path / "out", folder)
    assert result.returncode == 0, result.stderr
    with Store(tmp_path / "out") as store:
        items = store.items(store.units().id.iloc[-1])
        assert len(store.units()) == 2
    expected = spearmanr(items.score, pairs.score[::-1]).statistic
    assert float(result.stdout) == pytest.approx(expected, abs=1e-6)
    assert abs(expected - first.main_score.item()) > 1e-3


def test_a_changed_model_or_setting_is_another_unit(model, data, tmp_path):
    arguments = {"out": tmp_path, "data_dir": data, "progress": False}
    changed = tempscale.load_model(model, device="cpu")
    changed[0].auto_model.embeddings.word_embeddings.weight.data[9, 0] += 1
    prompted = tempscale.load_model(model, device="cpu")
    prompted.prompts = {"STS": "ba: "}
    pooled = tempscale.load_model(model, device="cpu")
    pooled[1] = type(pooled[1])(32, "cls")
    units = [
        evaluate(model, "STSBenchmark", [1.0], **arguments),
        evaluate(changed, "STSBenchmark", [1.0], **arguments),
        evaluate(prompted, "STSBenchmark", [1.0], **arguments),
        evaluate(pooled, "STSBenchmark", [1.0], **arguments),
        evaluate(model, "STSBenchmark", [1.0], max_seq_length=16, **arguments),
        evaluate(model, "STSBenchmark", [1.0], dtype="bfloat16", **arguments),
    ]
    found = pd.concat(units)
    assert found.id.is_unique
    assert found.main_score.is_unique
    assert found.model_hash.nunique() == 5, "the dtype of the weights, too"
    assert found.max_seq_length.tolist() == [64, 64, 64, 64, 16, 64]


def test_an_altered_unit_is_run_again(out, model, data, tmp_path):
    import sqlite3

    shutil.copytree(out, tmp_path / "out")
    with Store(tmp_path / "out") as store:
        before = scores(store)
        with sqlite3.connect(store.path) as database:
            database.execute("UPDATE item SET score = 1 WHERE position = 3")
        database.close()
    with Store(tmp_path / "out") as store:
        assert store.units().empty
    evaluate(model, TASKS, [1.0, 0.5], out=tmp_path / "out", data_dir=data, progress=False)
    with Store(tmp_path / "out") as store:
        for found, expected in zip(scores(store), before, strict=True):
            pd.testing.assert_frame_equal(found, expected)


def test_files_of_mteb(out):
    from mteb.results import TaskResult

    with Store(out) as store:
        units = store.units()
    files = sorted((out / "mteb").rglob("SciFact.json"))
    found = {TaskResult.from_disk(file).main_score for file in files}
    assert found == set(units[units.task == "SciFact"].main_score.round(6))
    for file in files:
        meta = json.loads(file.with_name("model_meta.json").read_text())
        assert meta["experiment_kwargs"]["temperature"] in file.parent.name
    results = mteb.ResultCache(out / "mteb").load_results(
        tasks=TASKS, load_experiments="match_name", require_model_meta=False
    )
    assert len(results.model_results) == 2, "one for each temperature, and none taken for the other"
    assert not list((out / "mteb").rglob("*.unfinished"))


def test_a_loaded_model_is_left_as_it_was(data, model, tmp_path):
    plain = tempscale.load_model(model, device="cpu")
    before = plain.encode(["ba de fi"])
    plain[0].train()
    modes = [module.training for module in plain.modules()]
    evaluate(plain, "STSBenchmark", [0.5], out=tmp_path, data_dir=data, max_seq_length=8, progress=False)
    assert [module.training for module in plain.modules()] == modes
    assert len(set(modes)) == 2
    plain.eval()
    assert np.array_equal(plain.encode(["ba de fi"]), before)
    assert plain.max_seq_length == 64
    with patch(plain, 0.5), pytest.raises(ValueError, match="patched already"):
        evaluate(plain, "STSBenchmark", [1.0], out=tmp_path, data_dir=data, progress=False)
    for temperature, layers, named in [(0.5, 7, "7"), (1.0, 7, "7"), (0.5, "last:99", "'last:99'")]:
        with pytest.raises(ValueError, match=f"unknown layer {named}: expected 0 to"):
            evaluate(plain, "STSBenchmark", [temperature], out=tmp_path, data_dir=data, layers=layers, progress=False)
    assert np.array_equal(plain.encode(["ba de fi"]), before)


def test_versions_command_and_device_are_kept(out):
    with Store(out) as store:
        unit = store.units().iloc[0]
    assert json.loads(unit.versions)["mteb"] == mteb.__version__
    assert unit.command.startswith("evaluate('")
    assert unit.command.endswith(f"{TASKS}, [1.0, 0.5])")
    assert unit.device == "cpu"
    assert unit["dtype"] == "float32"
    assert unit.tokens > 100


def test_the_share_of_cut_texts_is_kept(out, model, data, tmp_path):
    with Store(out) as store:
        units = store.units()
    corpus, queries = (pd.read_parquet(f"{data}/SciFact/{name}.parquet") for name in ("corpus", "queries"))
    tokens = pd.concat([corpus.title + " " + corpus.text, queries.text]).str.split().str.len() + 2
    share = (tokens > 64).mean()
    assert 0 < share < 1
    assert units[units.task == "SciFact"].cut.tolist() == [pytest.approx(share)] * 2
    assert units[units.task != "SciFact"].cut.tolist() == [0] * 4, "the longest of these is as long as the model reads"
    arguments = {"out": tmp_path, "data_dir": data, "progress": False}
    assert evaluate(model, "SciFact", [1.0], max_seq_length=16, **arguments).cut.item() == pytest.approx(
        (tokens > 16).mean()
    )
    assert evaluate(model, "SciFact", remedies=["pieces(32)"], **arguments).cut.item() == 0, "all of a text is read"


def test_the_version_of_the_data_is_kept(out):
    with Store(out) as store:
        units = store.units()
    assert (units.data_version == units.data_hash).all(), "of folders"
    (part,) = find_parts(["STS12"], None)
    assert part.data_version == mteb.get_task("STS12").metadata.dataset["revision"]


def test_temperature_one_is_shared_by_layers_and_sides(model, data, tmp_path):
    arguments = {"out": tmp_path, "data_dir": data, "progress": False}
    evaluate(model, "SciFact", [1.0], **arguments)
    found = evaluate(model, "SciFact", [1.0, 0.5], apply_to="document", layers="last:1", **arguments)
    assert found.apply_to.tolist() == ["both", "document"]
    with Store(tmp_path) as store:
        assert len(store.units()) == 2


def test_pieces_are_a_setting(out, model, data, tmp_path):
    """The whole of a long document is read, its score is that of the averages, and it is another unit."""
    shutil.copytree(out, tmp_path / "out")
    arguments = {"out": tmp_path / "out", "data_dir": data, "progress": False}
    found = evaluate(model, TASKS, [1.0, 0.5], remedies=["pieces(32)"], **arguments)
    assert found.remedy.tolist() == ["pieces(32)"] * 6
    assert found.command[0].endswith("remedies=['pieces(32)'])")
    with Store(tmp_path / "out") as store:
        units = store.units()
        scifact = units[(units.task == "SciFact") & (units.temperature == "1.0")].set_index("remedy")
        lengths = [store.items(unit).tokens.tolist() for unit in scifact.id]
    assert sorted(units.remedy.tolist()) == [""] * 6 + ["pieces(32)"] * 6
    assert lengths[0] == lengths[1], "the length of an item is that of its uncut text"
    assert scifact.tokens["pieces(32)"] > scifact.tokens[""]
    assert abs(scifact.main_score["pieces(32)"] - scifact.main_score[""]) > 1e-3
    plain = tempscale.load_model(model, device="cpu")
    corpus = pd.read_parquet(f"{data}/SciFact/corpus.parquet")
    texts = {text: text.split() for text in corpus.title + " " + corpus.text}

    class Averaging(SentenceTransformerEncoderWrapper):
        """Pieces by hand: a token a word, two special ones, about equal pieces."""

        def encode(self, inputs, **kwargs):
            embeddings = []
            for words in (str(text).split() for batch in inputs for text in batch["text"]):
                count = -(-len(words) // 30)
                ends = [0]
                while count:
                    ends.append(ends[-1] + -(-(len(words) - ends[-1]) // count))
                    count -= 1
                pieces = plain.encode([" ".join(words[a:b]) for a, b in pairwise(ends)])
                norms = np.linalg.norm(pieces, axis=1, keepdims=True)
                embeddings.append((pieces / norms).mean(0))
            return np.stack(embeddings)

    assert max(map(len, texts.values())) > 62
    expected = by_mteb(Averaging(plain), loaded("SciFact", data))
    assert scifact.main_score["pieces(32)"] == pytest.approx(expected, abs=1e-5)
    files = sorted((tmp_path / "out" / "mteb").rglob("SciFact.json"))
    assert len(files) == 4, "none of mteb's files is taken for another's"
    before = {file.relative_to(out) for file in (out / "mteb").rglob("SciFact.json")}
    assert before <= {file.relative_to(tmp_path / "out") for file in files}


def test_pieces_that_the_model_cannot_read_are_refused(model, data, tmp_path):
    for arguments, limit in (({}, 64), ({"max_seq_length": 16}, 16)):
        with pytest.raises(ValueError, match=rf"pieces\({limit + 1}\) has more than the {limit} tokens"):
            evaluate(
                model,
                "STSBenchmark",
                remedies=[f"pieces({limit + 1})"],
                out=tmp_path,
                data_dir=data,
                progress=False,
                **arguments,
            )
    with Store(tmp_path) as store:
        assert store.units().empty


class Projected(SentenceTransformerEncoderWrapper):
    """By hand, in NumPy: each text without the mean direction of the texts of its side in the other half."""

    def __init__(self, model, sides):
        super().__init__(model)
        self.plain, self.directions = model, {}
        for side, texts in sides.items():
            texts = list(dict.fromkeys(texts))
            halves = np.array([self.half(text) for text in texts])
            means = [model.encode(texts)[halves != half].mean(0) for half in (0, 1)]
            self.directions[side] = [mean / np.linalg.norm(mean) for mean in means]

    @staticmethod
    def half(text):
        return hashlib.sha256(text.encode()).digest()[0] % 2

    def encode(self, inputs, prompt_type=None, **kwargs):
        texts = [str(text) for batch in inputs for text in batch["text"]]
        directions = self.directions[prompt_type.value if prompt_type else None]
        directions = np.array([directions[self.half(text)] for text in texts])
        found = self.plain.encode(texts)
        return found - (found * directions).sum(1, keepdims=True) * directions


def test_projection_is_that_of_numpy_for_each_side_and_cross_fitted(model, data, tmp_path):
    arguments = {"out": tmp_path, "data_dir": data, "progress": False}
    found = evaluate(model, TASKS, remedies=["none", "project", "centre"], **arguments)
    scores = found.set_index(["task", "remedy"]).main_score
    plain = tempscale.load_model(model, device="cpu")
    split = loaded("SciFact", data).dataset["default"]["test"]
    sides = {
        "query": [row["text"] for row in split["queries"] if row["id"] in split["relevant_docs"]],
        "document": [f"{row['title']} {row['text']}".strip() for row in split["corpus"]],
    }
    assert scores["SciFact", "project"] == pytest.approx(
        by_mteb(Projected(plain, sides), loaded("SciFact", data)), abs=1e-5
    )
    pairs = loaded("STSBenchmark", data).dataset["test"]
    texts = {None: [*pairs["sentence1"], *pairs["sentence2"]]}
    expected = by_mteb(Projected(plain, texts), loaded("STSBenchmark", data))
    assert scores["STSBenchmark", "project"] == pytest.approx(expected, abs=1e-5)
    assert scores["STSBenchmark"].nunique() == scores["SciFact"].nunique() == 3
    again = evaluate(model, TASKS, remedies=["project"], **{**arguments, "out": tmp_path / "again"})
    assert again.set_index(["task", "remedy"]).main_score.equals(scores[[(task, "project") for task in again.task]])


def test_remedies_with_sides_leave_out_what_has_none(model, data, tmp_path, capsys):
    remedies = ["none", "pieces(16, pool=max)", "temperature(0.5, side=query)+project"]
    found = evaluate(model, TASKS, [1.0, 0.7], remedies=remedies, out=tmp_path, data_dir=data)
    settings = [(row.temperature, row.apply_to, row.remedy) for row in found[found.task == "SciFact"].itertuples()]
    assert settings == [
        ("1.0", "both", ""),
        ("1.0", "both", "pieces(16, pool=max)"),
        ("0.5", "query", "project"),
        ("0.7", "both", ""),
        ("0.7", "both", "pieces(16, pool=max)"),
    ]
    assert found[found.task != "SciFact"].remedy.tolist() == [""] * 4
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "Skipped pieces(16, pool=max); temperature(0.5, side=query)+project; temperature(0.7)+pieces(16, pool=max), for "
        in said
    )


def test_the_best_piece_is_scored_as_by_hand(model, data, tmp_path):
    """Every word is a token, so that pieces of at most 18 are those of 16 words, about equally long."""
    found = evaluate(model, "SciFact", remedies=["pieces(18, pool=max)"], out=tmp_path, data_dir=data, progress=False)
    plain = tempscale.load_model(model, device="cpu")
    task = loaded("SciFact", data)
    split = task.dataset["default"]["test"]
    asked = [row["text"] for row in split["queries"] if row["id"] in split["relevant_docs"]]
    names = [row["id"] for row in split["queries"] if row["id"] in split["relevant_docs"]]
    assert max(len(text.split()) for text in asked) <= 16
    best = []
    for row in split["corpus"]:
        words = (row["title"] + " " + row["text"]).split()
        ends = [0]
        for count in range(-(-len(words) // 16), 0, -1):
            ends.append(ends[-1] + -(-(len(words) - ends[-1]) // count))
        pieces = plain.encode([" ".join(words[a:b]) for a, b in pairwise(ends)])
        best.append(plain.similarity(plain.encode(asked), pieces).amax(1).numpy())
    gains = []
    for name, of_documents in zip(names, np.array(best).T, strict=True):
        order = np.argsort(-of_documents)[:10]
        relevant = split["relevant_docs"][name]
        of_rank = [relevant.get(split["corpus"][int(k)]["id"], 0) / np.log2(r + 2) for r, k in enumerate(order)]
        ideal = sum(sorted(relevant.values())[::-1][k] / np.log2(k + 2) for k in range(min(10, len(relevant))))
        gains.append(sum(of_rank) / ideal)
    assert found.main_score.item() == pytest.approx(np.mean(gains), abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": "STS-12"}, r"no task or benchmark 'STS-12' in mteb: did you mean STS12 or"),
        ({"tasks": []}, r"no task given: name at least one"),
        ({"tasks": "CIFAR10"}, r"CIFAR10 has image: expected a task of text alone"),
        ({"temperatures": []}, r"no temperature given: name at least one"),
        ({"temperatures": [0.9, -1]}, r"finite positive number, not -1"),
        ({"layers": "top"}, r"cannot read layers 'top': expected all, last:3"),
        ({"apply_to": "passage"}, r"unknown apply_to 'passage': expected one of both, document, query"),
        ({"apply_to": "query"}, r"apply_to='query' needs tasks with queries and documents, and STSBenchmark has none"),
        ({"data_dir": "/none"}, r"no folder /none: --data-dir \(TEMPSCALE_DATA\) names one"),
        ({"device": "quantum"}, r"unknown device 'quantum': use 'cpu'"),
        ({"device": "meta"}, r"no device 'meta' on this machine"),
        ({"dtype": "int8"}, r"unknown dtype 'int8'"),
        ({"engine": "slurm"}, r"unknown engine 'slurm': expected local or ray"),
        ({"batch_tokens": 0}, r"batch_tokens must be at least 1, not 0"),
        (
            {"remedies": ["pieces(7)"]},
            r"'pieces\(7\)': pieces must have at least 8 tokens, not 7; leave them out to read",
        ),
        ({"remedies": "project"}, r"remedies must be a list such as \['none', 'pieces\(128\)'\], not 'project'"),
        ({"remedies": []}, r"no remedy given: name at least one, and 'none' to compare with"),
        ({"remedies": [128]}, r"expected a Remedy, or text such as none, pieces\(128\), .*, not 128"),
        (
            {"remedies": ["pieces(32, pool=max)"]},
            r"temperature\(0.5\)\+pieces\(32, pool=max\) needs tasks with queries and documents, and STSBenchmark has none",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused_at_once(model, data, arguments, message, tmp_path):
    plan = {"tasks": "STSBenchmark", "temperatures": [0.5], "data_dir": data, "out": tmp_path / "out"} | arguments
    with pytest.raises(PlanError, match=message):
        evaluate(model, plan.pop("tasks"), plan.pop("temperatures"), **plan)
    assert not (tmp_path / "out").exists()


def test_a_task_that_fails_does_not_stop_the_others(model, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    pairs = pd.read_parquet(folder / "STSBenchmark" / "test.parquet")
    pairs.drop(columns="score").to_parquet(folder / "STSBenchmark" / "test.parquet", index=False)
    (folder / "Banking77Classification" / "train.parquet").write_text("no parquet")
    with pytest.raises(EvaluationError) as caught:
        evaluate(model, [*TASKS, "STS12"], [1.0, 0.5], out=tmp_path / "out", data_dir=folder, progress=False)
    first, second, third = str(caught.value).split("; ")
    assert first.startswith(f"cannot use the data of STSBenchmark in {folder / 'STSBenchmark'}: ")
    assert "score" in first
    assert second.startswith(
        f"cannot use the data of Banking77Classification in {folder / 'Banking77Classification'}: "
    )
    assert third.startswith("cannot load the data of STS12 from the hub (")
    assert third.endswith("put them into a folder STS12 of --data-dir (TEMPSCALE_DATA)")
    with Store(tmp_path / "out") as store:
        assert store.units().task.tolist() == ["SciFact", "SciFact"]


@pytest.mark.parametrize(("name", "tasks"), [("MTEB(eng, v1)", 67), ("MTEB(eng, v2)", 41), ("LongEmbed", 6)])
def test_benchmarks_resolve_without_network(name, tasks):
    parts = find_parts([name], None)
    names = {part.name for part in parts}
    assert len(names) == tasks
    assert all(part.data_hash for part in parts)
    assert ("CQADupstackAndroidRetrieval" in names) == (name == "MTEB(eng, v1)"), "the parts of CQADupstack"


def test_units_say_what_they_are():
    one = Unit("m", "h", "t", "STS", "test", "default", "1.0", "all", "both", 8, "float32", "d")
    assert one.id != replace(one, temperature="1.00").id


PUBLISHED = {"STS16": 0.78989, "STSBenchmark": 0.82032}
DATA = os.environ.get("TEMPSCALE_DATA", "")


@pytest.mark.skipif(not DATA, reason="TEMPSCALE_DATA names no folder with public data sets")
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_scores(name, tmp_path):
    found = evaluate("minilm", name, [1.0], out=tmp_path, data_dir=DATA, device="cpu", progress=False)
    assert found.main_score.item() == pytest.approx(PUBLISHED[name], abs=5e-5)
