"""The store: complete units or none, whatever happens to the process or to the file."""

import os
import random
import shutil
import signal
import sqlite3
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import pytest
from support.process import run_program
from support.units import units, write_units

from tempscale.evaluation import store as store_module
from tempscale.evaluation.store import FILE, UNIT, Item, Measured, Setting, Store, Unit
from tempscale.evaluation.store import _digest as digest

A_UNIT = Unit("minilm", "a1", "STS12", "STS", "test", "default", "0.9", "all", "both", 256, "float32", "b2")
FACTS = {"data_version": "v7", "prompts": '{"text": "query: "}', "cut": 0.125}
MEASURED = Measured(
    0.25, "cosine_spearman", "spearman", "cpu", '{"torch": "2"}', "tempscale evaluate", 1.5, 99, **FACTS
)
ITEMS = [
    Item("0", 12, 0.1, 5.0, "a", "headlines", "t1 t2"),
    Item("1", 7, float("nan"), 0.0, "a"),
    Item("2", None, 1 / 3),
]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path) as store:
        yield store


# Writes units number 0, 1, ... of 200 items each, and says so after each.
WRITER = """
out, count = sys.argv[2], int(sys.argv[3])
with Store(out) as store:
    for number in range(count):
        unit = Unit("m", "a", f"task {number}", "STS", "test", "default", "1.0", "all", "both", 8, "float32", "b")
        store.add(unit, Measured(number, "x", "mean", "cpu", "{}", "", 0.0, 0), [Item(str(i), i, i / 7) for i in range(200)])
        print(number, flush=True)
"""


def test_what_is_added_is_read_back(store):
    assert not store.finished(A_UNIT)
    store.add(A_UNIT, MEASURED, ITEMS)
    assert store.finished(A_UNIT)
    (row,) = store.units().to_dict("records")
    assert row.pop("created").endswith("+00:00")
    assert row == {"id": A_UNIT.id, **vars(A_UNIT), **vars(MEASURED)}
    items = store.items(A_UNIT.id)
    assert items.item.tolist() == ["0", "1", "2"]
    assert items.tokens[:2].tolist() == [12, 7]
    assert items.score[2] == 1 / 3, "to the last bit"
    assert items.score.isna().tolist() == [False, True, False]
    assert items.target.isna().tolist() == [False, False, True]
    assert items.cluster[:2].tolist() == ["a", "a"]
    assert items.cluster.isna()[2]
    assert (items.source[0], items.texts[0]) == ("headlines", "t1 t2")
    assert items[["source", "texts"]].isna().all(axis=1).tolist() == [False, True, True]


def test_a_zero_with_a_sign_is_finished(store):
    """SQLite does not keep the sign, and the digest must not either."""
    store.add(A_UNIT, replace(MEASURED, main_score=-0.0), [Item("0", 1, -0.0, -0.0)])
    store._verified.clear()
    assert store.finished(A_UNIT)


def test_a_unit_without_items_is_a_unit(store):
    store.add(A_UNIT, replace(MEASURED, statistic="none"), [])
    assert store.finished(A_UNIT)
    assert store.items(A_UNIT.id).empty


def test_the_parts_of_a_task(store):
    for split, subset, temperature in [
        ("test", "en", "1.0"),
        ("test", "de", "1.0"),
        ("dev", "en", "1.0"),
        ("test", "en", "0.9"),
    ]:
        unit = replace(A_UNIT, split=split, subset=subset, temperature=temperature)
        store.add(unit, replace(MEASURED, scores=f"{split} {subset} {temperature}"), ITEMS)
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE unit SET main_score = 7 WHERE subset = 'de'")
    database.close()
    assert store.parts(replace(A_UNIT, split="", temperature="1.0")) == {
        "test": {"en": ("test en 1.0", 1.5)},
        "dev": {"en": ("dev en 1.0", 1.5)},
    }


@pytest.mark.parametrize("field", UNIT)
def test_any_difference_is_another_unit(store, field):
    store.add(A_UNIT, MEASURED, ITEMS)
    other = replace(A_UNIT, **{field: 512 if field == "max_seq_length" else "other"})
    assert not store.finished(other)
    store.add(other, MEASURED, [])
    assert len(store.units()) == 2
    assert len(store.items(A_UNIT.id)) == 3


def test_a_finished_unit_is_kept(store):
    store.add(A_UNIT, MEASURED, ITEMS)
    store.add(A_UNIT, replace(MEASURED, main_score=0.5), [])
    assert store.units().main_score.tolist() == [0.25]
    assert len(store.items(A_UNIT.id)) == 3


ALTERATIONS = [
    *(f"UPDATE unit SET {field} = 7" for field in [*UNIT, *(field.name for field in fields(Measured)), "created"]),
    "UPDATE item SET score = 0.100001 WHERE position = 0",
    "UPDATE item SET tokens = 13 WHERE position = 0",
    "UPDATE item SET target = NULL WHERE position = 0",
    "UPDATE item SET item = 'other' WHERE position = 0",
    "UPDATE item SET source = NULL WHERE position = 0",
    "UPDATE item SET texts = 't1 t3' WHERE position = 0",
    "UPDATE item SET position = 3 WHERE position = 0",
    "DELETE FROM item WHERE position = 2",
    "DELETE FROM item",
    f"INSERT INTO item VALUES ('{A_UNIT.id}', 3, '3', 1, 1.0, 1.0, NULL, NULL, NULL)",
]


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_unit_does_not_count_and_is_replaced(store, alteration):
    other = replace(A_UNIT, task="STS14")
    store.add(A_UNIT, MEASURED, ITEMS)
    with sqlite3.connect(store.path) as database:
        database.execute(alteration)
    database.close()
    store.add(other, MEASURED, ITEMS)
    assert not store.finished(A_UNIT)
    assert store.units().id.tolist() == [other.id]
    with pytest.raises(KeyError, match="no finished unit"):
        store.items(A_UNIT.id)
    store.add(A_UNIT, MEASURED, ITEMS)
    assert store.finished(A_UNIT)
    assert set(store.units().id) == {A_UNIT.id, other.id}
    assert len(store.items(A_UNIT.id)) == 3


def test_killed_while_writing_loses_no_finished_unit_and_keeps_no_half_one(tmp_path, run):
    process = run(WRITER, tmp_path, 10_000)
    for _ in range(20):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    said = 20 + len(process.communicate(timeout=60)[0].split())
    with Store(tmp_path) as store:
        units = store.units()
        assert said <= len(units) <= said + 1
        assert units.task.tolist() == [f"task {number}" for number in units.main_score.astype(int)]
        stray = store._database.execute("SELECT count(*) FROM item").fetchone()[0]
        assert stray == 200 * len(units)


def test_killed_inside_a_transaction(tmp_path, run):
    code = """
store = Store(sys.argv[2])
with store._transaction():
    store._database.execute("DELETE FROM item")
    store._database.execute("UPDATE unit SET main_score = 9")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with Store(tmp_path) as store:
        store.add(A_UNIT, MEASURED, ITEMS)
        assert run(code, tmp_path).wait(timeout=60) == -signal.SIGKILL
        assert store.finished(A_UNIT)
        store.add(replace(A_UNIT, task="STS14"), MEASURED, [])
        assert len(store.units()) == 2


def test_several_processes_start_and_write_one_store_at_once(tmp_path, run):
    processes = [run(WRITER, tmp_path / "new", 20) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    with Store(tmp_path / "new", create=False) as store:
        assert sorted(store.units().main_score) == list(range(20))


def test_a_full_disk_is_said_and_keeps_what_was_finished(store):
    store.add(A_UNIT, MEASURED, ITEMS)
    store._database.execute("PRAGMA max_page_count = 10")
    with pytest.raises(
        OSError, match=r"cannot use .*\.sqlite \(database or disk is full\).* a store needs space .* is kept"
    ):
        store.add(replace(A_UNIT, task="large"), MEASURED, [Item(str(i), i, 0.0) for i in range(10_000)])
    assert store.finished(A_UNIT)
    assert len(store.units()) == 1


def test_a_damaged_file_is_said_and_left_alone(tmp_path):
    with Store(tmp_path) as store:
        for number in range(50):
            store.add(replace(A_UNIT, task=str(number)), MEASURED, ITEMS * 10)
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match=r"is damaged .* move it away and run again"), Store(tmp_path) as store:
        store.units()
    path.write_bytes(b"something else entirely" * 99)
    with pytest.raises(OSError, match=r"is damaged \(file is not a database\)"):
        Store(tmp_path)
    assert path.read_bytes() == b"something else entirely" * 99


def test_folders_that_cannot_be(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no results in .*none: it has no results\.sqlite; `tempscale evaluate"
    ):
        Store(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot make the folder .*file \(File exists\): name another"):
        Store(tmp_path / "file")
    (tmp_path / FILE).mkdir()
    with pytest.raises(OSError, match=r"cannot use .* \(unable to open database file\)"):
        Store(tmp_path)


def test_other_tables_are_said_and_left_alone(tmp_path):
    message = r"does not hold the tables of a store \({}\): another program wrote or changed it; move it away"
    with Store(tmp_path) as store:
        store._database.execute("DROP TABLE item")
    with Store(tmp_path) as store, pytest.raises(OSError, match=message.format("no such table: item")):
        store.add(A_UNIT, MEASURED, ITEMS)
    for version in (0, 2):
        folder = tmp_path / str(version)
        folder.mkdir()
        with sqlite3.connect(folder / FILE) as database:
            database.execute("CREATE TABLE unit (mine)")
            database.execute("INSERT INTO unit VALUES (7)")
            database.execute(f"PRAGMA user_version = {version}")
        database.close()
        with pytest.raises(OSError, match=message.format(".*")):
            Store(folder)
        with sqlite3.connect(folder / FILE) as database:
            assert database.execute("SELECT * FROM unit").fetchall() == [(7,)]
            assert database.execute("PRAGMA user_version").fetchone() == (version,)
        database.close()


def test_a_later_version_is_not_touched(tmp_path):
    with Store(tmp_path) as store:
        store._database.execute("PRAGMA user_version = 4")
    with pytest.raises(OSError, match=r"is of version 4, this tempscale reads 3: upgrade tempscale"):
        Store(tmp_path)


def test_a_store_of_version_1_is_refused_and_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 1")
    database.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(
        OSError, match=r"is of version 1, this tempscale reads 3: open it once with tempscale 0\.1, which"
    ):
        Store(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_the_digest_of_a_unit_is_computed_once_for_each_opening(tmp_path, monkeypatch):
    with Store(tmp_path) as store:
        store.add(A_UNIT, MEASURED, ITEMS)
    computed = []
    monkeypatch.setattr(store_module, "_digest", lambda *given: computed.append(1) or digest(*given))
    with Store(tmp_path) as store:
        for _ in range(3):
            assert store.finished(A_UNIT)
            assert len(store.units()) == len(store.parts(A_UNIT)) == 1
            assert len(store.items(A_UNIT.id)) == 3
    assert len(computed) == 1


def test_a_setting_is_part_of_a_unit():
    assert A_UNIT.setting == ("0.9", "all", "both", "")
    assert set(Setting._fields) <= set(UNIT)


AS_NOBODY = """
import os, sys
from tempscale.cli.app import app
import pandas, scipy.stats
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
app()
"""


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("state", ["closed", "with a log", "of version 2"])
def test_compare_reads_a_folder_in_which_nothing_may_be_written(state, tmp_path_factory, write_2):
    """Also a store that was not closed, and one of an older version; nothing in the folder changes."""
    made = tmp_path_factory.mktemp("made")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "results"
        write_units(made, tasks=1, settings=2)
        if state == "with a log":
            with Store(made):
                shutil.copytree(made, folder)
            (folder / f"{FILE}-shm").unlink(missing_ok=True)
        else:
            shutil.copytree(made, folder)
        if state == "of version 2":
            (folder / FILE).unlink()
            write_2(folder, units(tasks=1, settings=2))
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        Path(name).chmod(0o755)
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)
        found = run_program(AS_NOBODY, "compare", folder, "--format", "csv")
        folder.chmod(0o755)
        assert found.returncode == 0, found.stderr
        assert found.stdout.count("\n") > 2
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_bytes_that_are_flipped_alter_a_unit_or_damage_the_file(tmp_path_factory):
    """Every unit is there as it was, is named as altered, or there is one sentence; never anything else."""
    made = tmp_path_factory.mktemp("made")
    write_units(made, tasks=6, settings=2, items=30)
    with Store(made) as store:
        store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        expected = {row["id"]: row for row in store.units().to_dict("records")}
        scores = {unit: store.item_table(unit) for unit in expected}
    whole = (made / FILE).read_bytes()
    rng, outcomes, said = random.Random(0), set(), []
    for number in range(150):
        folder = made / str(number)
        folder.mkdir()
        flipped = bytearray(whole)
        for _ in range(rng.choice([1, 1, 1, 40])):
            flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        (folder / FILE).write_bytes(flipped)
        try:
            with Store(folder, create=False, keep_items=True) as store:
                found = store.units().to_dict("records")
                for row in found:
                    assert repr(row) == repr(expected[row["id"]])
                    assert store.item_table(row["id"]).labels == scores[row["id"]].labels
                assert len(found) + len(store.altered) <= len(expected)
                outcomes.add("altered" if store.altered else "whole")
        except OSError as error:
            said.append(error)
            outcomes.add("damaged")
    assert {type(error) for error in said} == {OSError}
    assert not [error for error in said if "\n" in str(error)]
    assert outcomes == {"altered", "whole", "damaged"}


def test_altered_units_are_named_until_they_are_replaced(store):
    store.add(A_UNIT, MEASURED, ITEMS)
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE item SET item = CAST(x'ff30' AS TEXT) WHERE position = 0")  # is no text
    database.close()
    assert store.units().empty
    assert store.altered == {A_UNIT.id: "STS12 test at 0.9"}
    store.add(A_UNIT, MEASURED, ITEMS)
    assert len(store.units()) == 1
    assert store.altered == {}


def test_half_a_pair_of_surrogates_is_written_out(store):
    store.add(A_UNIT, MEASURED, [Item("a" + chr(0xD800), 1, 0.5)])
    store._verified.clear()
    assert store.items(A_UNIT.id).item.tolist() == [r"a\ud800"]


def test_items_that_are_kept_are_the_same_and_shared(tmp_path):
    write_units(tmp_path, tasks=2, settings=3)
    with Store(tmp_path) as plain, Store(tmp_path, keep_items=True) as keeping:
        tables = {unit: keeping.item_table(unit) for unit in keeping.units().id}
        for unit, table in tables.items():
            assert keeping.items(unit).equals(plain.items(unit))
            assert plain.item_table(unit).labels == table.labels
    assert len({id(table.labels) for table in tables.values()}) == 1, "the same items, whatever their scores"


def test_units_are_in_the_order_in_which_they_came(store):
    """Also those of the same second."""
    for number in range(20):
        store.add(replace(A_UNIT, task=f"task {number}"), MEASURED, [])
    assert store.units().task.tolist() == [f"task {number}" for number in range(20)]
