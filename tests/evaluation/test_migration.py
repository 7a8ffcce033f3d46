"""Stores of version 2: what was finished stays so, what was altered does not become valid, and nothing is lost."""

import os
import signal
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscale.comparison.compare import compare
from tempscale.evaluation.store import FILE, Item, Measured, Store, Unit

UNIT = Unit("minilm", "a1", "STS12", "STS", "test", "default", "0.9", "all", "both", 256, "float32", "b2")
MEASURED = Measured(0.25, "cosine_spearman", "spearman", "cpu", '{"torch": "2"}', "tempscale evaluate", 1.5, 99)
ITEMS = [Item("0", 12, 0.1, 5.0, "a"), Item("1", 7, None, 0.0, "a"), Item("2", None, 1 / 3)]


def in_sqlite(folder, *statements):
    with sqlite3.connect(folder / FILE) as database:
        found = [database.execute(statement).fetchall() for statement in statements]
    database.close()
    return found[-1]


def content(folder):
    """Return all that a database holds, and its version."""
    with sqlite3.connect(folder / FILE) as database:
        found = list(database.iterdump()), database.execute("PRAGMA user_version").fetchone()
    database.close()
    return found


def test_what_was_finished_is_read_and_gone_on_with(write_2, tmp_path):
    pieces = replace(UNIT, remedy="pieces(128)")
    write_2(tmp_path, [(UNIT, MEASURED, ITEMS), (pieces, replace(MEASURED, main_score=None), [])])
    with Store(tmp_path, create=False) as store:
        assert store.finished(UNIT)
        assert store.finished(pieces)
        units = store.units()
        assert units.id.tolist() == [UNIT.id, pieces.id]
        assert units.remedy.tolist() == ["", "pieces(128)"]
        assert units.created.tolist() == ["2026-11-20T10:00:00+00:00", "2026-11-20T10:01:00+00:00"]
        assert units[["data_version", "prompts", "cut"]].isna().all(axis=None), "what version 2 did not keep"
        items = store.items(UNIT.id)
        assert items.score[2] == 1 / 3, "to the last bit"
        assert items[["source", "texts"]].isna().all(axis=None)
        assert store.items(pieces.id).empty
        assert store.parts(UNIT) == {"test": {"default": ("{}", 1.5)}}
        store.add(replace(UNIT, task="STS14"), MEASURED, ITEMS)
        assert store.units().task.tolist() == ["STS12", "STS12", "STS14"]


def test_the_tables_are_those_of_a_new_store(write_2, tmp_path):
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        folder.mkdir()
    write_2(folders[0], [])
    described = []
    for folder in folders:
        Store(folder).close()
        columns = in_sqlite(
            folder,
            "SELECT tables.name, columns.name, columns.type, columns.pk FROM sqlite_schema AS tables, "
            "pragma_table_info(tables.name) AS columns",
        )
        described.append(sorted(columns))
        # Items are written by position.
        assert [name for table, name, *_ in columns if table == "item"][-2:] == ["source", "texts"]
    assert described[0] == described[1]
    assert {table for table, *_ in described[0]} == {"unit", "item", "claim"}


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
# SQLite does not keep the sign of a zero, so a unit with a -0.0 was never finished in version 2.
numbers = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
items = st.lists(
    st.builds(
        Item,
        item=words,
        tokens=st.none() | st.integers(0, 9999),
        score=st.none() | numbers,
        target=st.none() | numbers,
        cluster=st.none() | words,
        source=st.none(),
        texts=st.none(),
    ),
    max_size=4,
)
units = st.builds(
    lambda pieces, temperature, model: replace(
        UNIT, remedy=f"pieces({pieces})" if pieces else "", temperature=temperature, model=model
    ),
    st.sampled_from([0, 8, 128]),
    words,
    words,
)


@given(st.dictionaries(units, st.tuples(numbers, words, items), max_size=5))
def test_any_unit_is_read_back_as_it_was(write_2, written):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_2(
            folder,
            [
                (unit, replace(MEASURED, main_score=score, command=command), of_unit)
                for unit, (score, command, of_unit) in written.items()
            ],
        )
        with Store(folder) as store:
            assert len(store.units()) == len(written)
            for unit, (score, command, of_unit) in written.items():
                assert store.finished(unit)
                row = store.units().set_index("id").loc[unit.id]
                assert (row.main_score, row.command, row.model) == (score, command, unit.model)
                assert [Item(*row) for row in store._items(unit.id)] == of_unit


@pytest.mark.parametrize(
    "alteration",
    [
        "UPDATE unit SET main_score = 0.26 WHERE task = 'STS12'",
        "UPDATE unit SET created = '' WHERE task = 'STS12'",
        "UPDATE unit SET chunk_tokens = 128 WHERE task = 'STS12'",
        "UPDATE unit SET task = 'STS14' WHERE task = 'STS12'",
        "UPDATE unit SET digest = NULL WHERE task = 'STS12'",
        "UPDATE unit SET id = 'x' WHERE task = 'STS12'",
        "UPDATE item SET score = 0.100001 WHERE score = 0.1",
        "DELETE FROM item WHERE score = 0.1",
    ],
)
def test_an_altered_unit_does_not_become_valid(write_2, tmp_path, alteration):
    other = replace(UNIT, task="STS14")
    write_2(tmp_path, [(UNIT, MEASURED, ITEMS), (other, MEASURED, [Item("0", 1, 0.5)])])
    in_sqlite(tmp_path, alteration)
    for _ in range(2):
        with Store(tmp_path) as store:
            assert store.units().id.tolist() == [other.id]
            assert not store.finished(UNIT)
            assert store.items(other.id).score.tolist() == [0.5]
    with Store(tmp_path) as store:
        store.add(UNIT, MEASURED, ITEMS)
        assert store.finished(UNIT)
        assert len(store.items(UNIT.id)) == 3
        assert set(store.units().id) == {UNIT.id, other.id}


def test_killed_on_the_way_leaves_version_2_whole(write_2, tmp_path, run):
    numbered = [replace(UNIT, task=f"task {number}") for number in range(5)]
    write_2(tmp_path, [(unit, MEASURED, ITEMS) for unit in numbered])
    before = content(tmp_path)
    code = """
from tempscale.evaluation import migration
hash, calls = migration._hash, []
def killing(facts):
    calls.append(facts)
    if len(calls) == 12:  # of four for each unit
        os.kill(os.getpid(), signal.SIGKILL)
    return hash(facts)
migration._hash = killing
Store(sys.argv[2])
"""
    assert run(code, tmp_path).wait(timeout=60) == -signal.SIGKILL
    assert content(tmp_path) == before
    with Store(tmp_path) as store:
        assert all(map(store.finished, numbered))


def test_processes_that_open_it_at_once_all_find_everything(write_2, tmp_path, run):
    numbered = [replace(UNIT, task=f"task {number}") for number in range(50)]
    write_2(tmp_path, [(unit, MEASURED, ITEMS * 20) for unit in numbered])
    code = """

with Store(sys.argv[2]) as store:
    print(len(store._rows("TRUE", [])))
"""
    processes = [run(code, tmp_path) for _ in range(4)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["50\n"] * 4
    with Store(tmp_path) as store:
        assert all(map(store.finished, numbered))


def test_compare_gives_the_numbers_of_a_store_that_was_never_of_version_2(write_2, tmp_path):
    rng = np.random.default_rng(0)
    written = []
    for task in ("A", "B"):
        before = rng.random(40)
        for temperature, remedy in (("1.0", ""), ("0.9", ""), ("1.0", "pieces(128)")):
            scores = before + rng.normal(0.02, 0.1, 40) * ((temperature, remedy) != ("1.0", ""))
            unit = replace(UNIT, task=task, temperature=temperature, remedy=remedy)
            measured = replace(MEASURED, main_score=scores.mean().item(), statistic="mean")
            of_unit = [Item(str(row), 3 * row, score) for row, score in enumerate(scores.tolist())]
            written.append((unit, measured, of_unit))
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        folder.mkdir()
    write_2(folders[0], written)
    with Store(folders[1]) as store:
        for unit in written:
            store.add(*unit)
    found, expected = map(compare, folders)
    assert set(found.remedy) == {"", "pieces(128)"}
    assert set(found.scope) == {"task", "length", "overall", "held-out", "held-out overall"}
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.skipif(os.name != "posix", reason="takes permissions away as on POSIX")
def test_a_store_that_cannot_be_written_is_said_and_left_alone(write_2):
    # Not in tmp_path, which nobody else may enter: permissions do not stop the administrator, who becomes another user.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_2(folder, [(UNIT, MEASURED, ITEMS)])
        before = (folder / FILE).read_bytes()
        folder.chmod(0o555)
        (folder / FILE).chmod(0o444)
        administrator = os.geteuid() == 0
        if administrator:
            os.seteuid(65534)
        try:
            with pytest.raises(
                OSError, match=r"cannot use .*: a store needs space and permission .* copy its folder to"
            ):
                compare(folder)
        finally:
            if administrator:
                os.seteuid(0)
            folder.chmod(0o755)
        assert (folder / FILE).read_bytes() == before
