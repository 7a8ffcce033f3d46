"""Files of pairs: what a row means, and what is said of the rows that are left out."""

import pickle

import pytest

from tempscale.evaluation.pair_files import PairFile, is_pair_file, read_pair_file


def written(folder, content, name="mine.csv"):
    (folder / name).write_text(content, "utf-8")
    return folder / name


def test_every_kind_of_row(tmp_path):
    rows = ["tea,Hot.,2", "tea,Hot.,2", "tea,Cold.,0", "tea,,1", ",Snow.,", "ice,ice,1", ",,"]
    path = written(tmp_path, "\n".join(["query,document,relevance", *rows]))
    said = "2 of 7 rows have no document and are left out; 1 of 7 rows are repeated.*; 1 of 7 rows pair a text with its"
    with pytest.warns(UserWarning, match=said) as caught:
        found = read_pair_file(path)
    assert len(caught) == 1
    assert found.pairs == [("tea", "Hot.", 2), ("tea", "Cold.", 0)]
    assert found.documents == ["Snow.", "ice"]


def test_names_of_columns_and_keys(tmp_path):
    path = written(tmp_path, '[{"q": {"text": "tea"}, "d": "Hot.", "n": 3}]', "mine.json")
    assert read_pair_file(path, query="q.text", document="d", relevance="n").pairs == [("tea", "Hot.", 3)]
    assert read_pair_file(path, query="q.text", document="d").pairs == [("tea", "Hot.", 1)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("more.txt", "One.\nTwo.\n"),
        ("more.csv", "n,d\n1,One.\n2,Two.\n"),
        ("more.jsonl", '{"text": "One."}\n{"text": "Two."}'),
    ],
)
def test_more_documents(tmp_path, name, content):
    path = written(tmp_path, "q,d\ntea,Hot.\n,Two.\n")
    found = read_pair_file(path, query="q", document="d", documents=written(tmp_path, content, name))
    assert found.documents == ["Two.", "One."]


@pytest.mark.parametrize("grade", ["-1", "0.5", "x", "", "nan", "inf", "1e999"])
def test_grades_that_are_none(tmp_path, grade):
    path = written(tmp_path, f"query,document,relevance\ntea,Hot.,1.0\ntea,Cold.,{grade}\n")
    with pytest.raises(
        ValueError, match=r"'relevance' in line 3 of .*mine.csv is .*: expected a grade, a whole number from 0"
    ):
        read_pair_file(path)


def test_a_missing_grade_is_said_to_be_missing(tmp_path):
    path = written(tmp_path, '{"query": "tea", "document": "Hot.", "relevance": null}', "mine.jsonl")
    with pytest.raises(ValueError, match=r"'relevance' in line 1 of .*mine.jsonl is missing: expected a grade"):
        read_pair_file(path)


def test_names_keep_their_options_on_the_way_to_a_cluster():
    name = pickle.loads(pickle.dumps(PairFile("mine.csv", query="q", encoding=None)))
    assert (name, name.options) == ("mine.csv", {"query": "q"})
    assert is_pair_file(name)
