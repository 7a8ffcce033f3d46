"""Facts above a table."""

import pandas as pd

from tempscale.evaluation.identity import provenance
from tempscale.files import write_table


def test_a_table_with_facts_is_read_back(tmp_path, minilm):
    table = pd.DataFrame({"name": ["a", "b"], "rate": [0.123456789, 1e-7]})
    about = provenance("minilm", minilm, ["one text", "another\nof two lines"])
    write_table(table, tmp_path / "table.csv", about | {"note": "two\nlines"})
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert [line.split(":")[0] for line in lines[: len(about)]] == [f"# {key}" for key in about]
    assert lines[len(about)] == "# note: two lines"
    read = pd.read_csv(tmp_path / "table.csv", comment="#")
    pd.testing.assert_frame_equal(read, table, rtol=1e-3)


def test_weights_without_a_file_are_named_by_the_commit(minilm):
    assert provenance("some/hub-id", minilm, [])["weights"] == "commit unknown"
    minilm[0].auto_model.config._commit_hash = "0123abc"
    try:
        assert provenance("some/hub-id", minilm, [])["weights"] == "commit 0123abc"
    finally:
        minilm[0].auto_model.config._commit_hash = None


def test_the_texts_are_told_apart(minilm):
    assert provenance("minilm", minilm, ["ab", "c"])["texts"] != provenance("minilm", minilm, ["a", "bc"])["texts"]


def test_digits_and_a_comment_sign_inside_a_table(tmp_path):
    table = pd.DataFrame({"label": ["a#1", 'b "2", #'], "count": [1, 2], "rate": [1 / 3, 2 / 3]})
    write_table(table, tmp_path / "table.csv", {"note": "x"}, digits=10)
    read = pd.read_csv(tmp_path / "table.csv", comment="#")
    pd.testing.assert_frame_equal(read, table, rtol=1e-9, check_dtype=False)
    assert read["count"].tolist() == [1, 2]
    assert "0.3333333333" in (tmp_path / "table.csv").read_text()
