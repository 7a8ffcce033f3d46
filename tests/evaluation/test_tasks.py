"""Tasks by name: files, subsets, folders, equal names; and data with holes."""

import shutil
import subprocess
import sys

import pandas as pd
import pytest

pytest.importorskip("mteb")

from support.evaluation import write_data

from tempscale.evaluation.own_tasks import PairRetrieval
from tempscale.evaluation.pair_files import PairFile
from tempscale.evaluation.tasks import find_parts, split_names

PAIRS = "query,document\n" + "".join(f"q{n},d{n}\n" for n in range(10))
AMAZON = "AmazonCounterfactualClassification"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("good.csv", "sub/good.csv", "SciFact.csv", "a,b.csv", "MTEB(eng, v1).csv"):
        (tmp_path / name).write_text(PAIRS)
    (tmp_path / "notes.txt").write_text("note")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("STS12, SciFact", ["STS12", "SciFact"]),
        ("MTEB(eng, v1),mine.csv", ["MTEB(eng, v1)", "mine.csv"]),
        ("a,b.csv", ["a,b.csv"]),
        ('"a,b.csv",STS12', ["a,b.csv", "STS12"]),
        ("b,a.csv", ["b", "a.csv"]),
        (f"{AMAZON}(en, de),", [f"{AMAZON}(en, de)"]),
        (",", []),
    ],
)
def test_names_of_a_list(here, names, expected):
    assert split_names(names) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["good.csv", "sub/good.csv"],
            "two different tasks are named 'good', .*good.csv and .*sub/good.csv: rename one",
        ),
        (
            ["SciFact.csv", "SciFact"],
            "two different tasks are named 'SciFact', .*SciFact.csv and a SciFact.*: rename one",
        ),
        (
            ["good.csv", PairFile("good.csv", query="document", document="query")],
            "two different tasks are named 'good'",
        ),
        (["none.csv"], "cannot read none.csv: no such file"),
        (["STS12", "none.parquet"], "cannot read none.parquet: no such file"),
        ([PairFile("good.csv", documents="none.txt")], "cannot read none.txt: no such file"),
        (["notes.txt"], "notes.txt is no file of pairs: a file of pairs ends in .csv, .tsv, .json, .jsonl"),
        (["mine.xlsx"], "mine.xlsx is no file, and no task: a file of pairs ends in"),
        (["mteb/sts12-sts"], "mteb/sts12-sts is no file, and no task: .* a task goes by its name, such as STS12"),
        ([f"{AMAZON}(fr)"], f"{AMAZON} has no subset 'fr': it has en-ext, en, de, ja"),
        ([f"{AMAZON}(en, EN-ext)"], "has no subset 'EN-ext': it has .*did you mean en-ext?"),
        ([f"{AMAZON}()"], "has no subset ''"),
        (["STS122"], "no task or benchmark 'STS122' in mteb: did you mean STS12"),
        (["STS122(en)"], "no task or benchmark .*in mteb"),
        ([], "no task given"),
    ],
)
def test_names_that_are_refused(here, names, message):
    with pytest.raises(ValueError, match=message) as refused:
        find_parts(names, None)
    assert "\n" not in str(refused.value)


def test_a_wrong_file_is_said_before_mteb_is_imported():
    code = """
import sys
from tempscale.evaluation.tasks import find_parts
for name in ("none.csv", "good.xlsx"):
    try:
        find_parts([name], None)
    except ValueError:
        assert "mteb" not in sys.modules, name
    else:
        raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_the_same_is_one_task(here):
    assert len(find_parts(["good.csv", "./good.csv", str(here / "sub" / ".." / "good.csv")], None)) == 1
    assert len(find_parts(["STS12", "STS12"], None)) == 1
    task = PairRetrieval([(f"q{n}", f"d{n}") for n in range(10)])
    assert len(find_parts([task, task], None)) == 1
    with pytest.raises(
        ValueError, match="two different tasks are named 'PairRetrieval', a PairRetrieval and a PairRetrieval"
    ):
        find_parts([task, PairRetrieval(task.pairs)], None)


def test_subsets_by_name():
    parts = find_parts([f"{AMAZON}(de, en)"], None)
    assert list(dict.fromkeys(part.subset for part in parts)) == ["de", "en"]
    assert {part.name for part in parts} == {AMAZON}
    both = find_parts([f"{AMAZON}(de)", f"{AMAZON}(ja,de)"], None)
    assert list(dict.fromkeys(part.subset for part in both)) == ["de", "ja"]
    everything = find_parts([AMAZON], None)
    assert len({part.subset for part in everything}) == 4
    assert {part.data_hash for part in parts} == {part.data_hash for part in everything}


@pytest.mark.parametrize("name", ["STSBenchmark", "mteb/stsbenchmark-sts", "stsbenchmark-sts"])
def test_folders_by_the_names_of_the_hub(data, tmp_path, name):
    shutil.copytree(f"{data}/STSBenchmark", tmp_path / name)
    (part,) = find_parts(["STSBenchmark"], tmp_path)
    assert part.folder == tmp_path / name
    part.load()
    assert len(part.task.dataset["test"]) == 40


@pytest.mark.parametrize(
    ("task", "file", "column", "message"),
    [
        (
            "STSBenchmark",
            "test",
            "sentence2",
            "3 of 40 values of 'sentence2' in 'test' are missing: fill them in, or leave",
        ),
        ("STSBenchmark", "test", "score", "3 of 40 values of 'score' in 'test' are missing"),
        ("SciFact", "corpus", "text", "3 of 25 values of 'text' in 'corpus' are missing"),
        ("SciFact", "corpus", "title", "3 of 25 values of 'title' in 'corpus' are missing"),
        ("SciFact", "queries", "text", "3 of 30 values of 'text' in 'queries' are missing"),
        ("Banking77Classification", "train", "text", "3 of 45 values of 'text' in 'train' are missing"),
        ("Banking77Classification", "test", "label", "3 of 36 values of 'label' in 'test' are missing"),
    ],
)
def test_missing_values_are_counted_and_refused(data, tmp_path, task, file, column, message):
    shutil.copytree(f"{data}/{task}", tmp_path / task)
    path = tmp_path / task / f"{file}.parquet"
    frame = pd.read_parquet(path)
    frame[column] = frame[column].astype(object)
    frame.loc[frame.index[:3], column] = None
    frame.to_parquet(path, index=False)
    part = find_parts([task], tmp_path)[0]
    for _ in range(2):  # a second try does not take the data for loaded
        with pytest.raises(ValueError, match=rf"cannot use the data of {task} in .*: {message}") as refused:
            part.load()
        assert "\n" not in str(refused.value)
    assert not part.task.data_loaded


def test_an_empty_file_has_no_rows(tmp_path):
    folder = tmp_path / "STSBenchmark"
    folder.mkdir()
    (folder / "test.jsonl").touch()
    (part,) = find_parts(["STSBenchmark"], tmp_path)
    with pytest.raises(ValueError, match=r"cannot use the data of STSBenchmark in .*: test.jsonl has no rows"):
        part.load()


def test_values_that_no_score_depends_on_may_be_missing(data, tmp_path):
    shutil.copytree(f"{data}/STSBenchmark", tmp_path / "STSBenchmark")
    path = tmp_path / "STSBenchmark" / "test.parquet"
    frame = pd.read_parquet(path)
    frame.assign(genre=[None, *["news"] * 39]).to_parquet(path, index=False)
    frame.assign(genre="news", sentence1=[None, *frame.sentence1[1:]]).to_parquet(
        path.with_name("train.parquet"), index=False
    )
    (part,) = find_parts(["STSBenchmark"], tmp_path)
    part.load()
    assert part.task.dataset["test"]["genre"][:2] == [None, "news"]
