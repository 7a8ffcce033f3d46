"""Columns read once: scores are those of mteb on its own data sets to the last digit, and no label is read row by row."""

import numpy as np
import pytest

pytest.importorskip("mteb", reason="mteb is not installed: pip install 'tempscale[eval]'")

import mteb
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from support.evaluation import TASKS

from tempscale.evaluation.columns import read_once
from tempscale.evaluation.tasks import find_parts

pytestmark = pytest.mark.filterwarnings("ignore")  # mteb's and scikit-learn's own


class Stub:
    """An encoder whose embeddings are random numbers, the same for the same text."""

    mteb_model_meta = mteb.models.ModelMeta.create_empty(
        overwrites={"name": "a/stub", "revision": "1", "modalities": ["text"]}
    )

    def encode(self, inputs, **kwargs):
        texts = inputs.dataset["text"][:]
        return np.array([np.random.default_rng(list(text.encode())).normal(size=8) for text in texts])

    def similarity(self, first, second):
        return np.asarray(first) @ np.asarray(second).T

    def similarity_pairwise(self, first, second):
        return (np.asarray(first) * np.asarray(second)).sum(1)


def result(part):
    found = mteb.evaluate(Stub(), part.fresh(), cache=None, co2_tracker=False, show_progress_bar=False)
    return found.task_results[0].scores


@pytest.mark.parametrize("name", TASKS)
def test_all_scores_are_those_of_the_data_sets_as_mteb_loads_them(name, data, monkeypatch):
    (changed,), (plain,) = find_parts([name], data), find_parts([name], data)
    changed.load()
    monkeypatch.setattr("tempscale.evaluation.columns.read_once", lambda data: data)
    plain.load()
    assert repr(result(changed)) == repr(result(plain)), "to the last digit, and with the same types"


def test_labels_are_not_read_row_by_row(data, monkeypatch):
    (part,) = find_parts(["Banking77Classification"], data)
    part.load()
    rows = []
    iterate = Dataset.__iter__
    monkeypatch.setattr(Dataset, "__iter__", lambda self: rows.append(len(self)) or iterate(self))
    result(part)
    assert sum(rows) == 0
    part.task.dataset["test"].__class__ = Dataset
    result(part)
    assert sum(rows) > 10 * 36, "what mteb does by itself: every metric of every experiment reads all labels"


@given(
    st.lists(st.tuples(st.integers(0, 5), st.text(max_size=3)), min_size=1, max_size=20),
    st.data(),
)
def test_a_data_set_is_what_it_was(rows, data):
    columns = {"label": [label for label, _ in rows], "text": [text for _, text in rows]}
    plain, once = Dataset.from_dict(columns), read_once(Dataset.from_dict(columns))
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9))
    for _ in range(2):
        for name in columns:
            assert once[name] == columns[name]
            assert once.select(chosen)[name] == [columns[name][row] for row in chosen]
    assert [*once] == [*plain]
    assert once[0] == plain[0]
    assert once.column_names == plain.column_names


def test_a_changed_copy_has_its_own_columns():
    once = read_once({"default": {"test": Dataset.from_dict({"a": [1, 2], "b": [3, 4]})}})["default"]["test"]
    assert (once["a"], once["b"]) == ([1, 2], [3, 4])
    swapped = once.rename_column("a", "c").rename_column("b", "a")
    assert swapped["a"][:] == [3, 4]
    assert once.map(lambda row: {"a": 10 * row["a"]})["a"][:] == [10, 20]
    assert once.select_columns(["b"]).column_names == ["b"]
    assert once.with_format("numpy")["a"][:].tolist() == [1, 2]
    assert once["a"] == [1, 2]
