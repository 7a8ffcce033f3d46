"""Claims: a unit is run by one process at a time, and one that is gone keeps it from nobody."""

import os
import signal
import socket
import time
from dataclasses import replace

import pytest

from tempscale.evaluation import claims
from tempscale.evaluation.store import Measured, Store, Unit

UNIT = Unit("minilm", "a1", "STS12", "STS", "test", "default", "0.9", "all", "both", 256, "float32", "b2")
MEASURED = Measured(0.25, "accuracy", "mean", "cpu", "{}", "", 1.5, 99)

# Claims a unit, says so, and waits to be killed.
CLAIMANT = """
store = Store(sys.argv[2])
unit = Unit("minilm", "a1", "STS12", "STS", "test", "default", "0.9", "all", "both", 256, "float32", "b2")
print(store.claim(unit), flush=True)
time.sleep(600)
"""


@pytest.fixture
def pair(tmp_path):
    """Return two openings of one store."""
    with Store(tmp_path) as one, Store(tmp_path) as two:
        yield one, two


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "did not come to be within a minute"
        time.sleep(0.005)


def rows(store):
    return store._database.execute("SELECT unit, owner, until FROM claim").fetchall()


def test_a_claimed_unit_is_nobody_elses_until_it_is_released(pair):
    one, two = pair
    assert one.claim(UNIT)
    assert one.claim(UNIT), "again, for who has it"
    assert not two.claim(UNIT)
    assert two.claim(replace(UNIT, task="STS14"))
    assert one.claim_of_another(UNIT) is None
    assert str(two.claim_of_another(UNIT)) == f"process {os.getpid()} on {socket.gethostname()}"
    two.release(UNIT)
    assert not two.claim(UNIT), "it was not two's to release"
    one.release(UNIT)
    assert two.claim(UNIT)


def test_a_finished_unit_has_no_claim_and_gets_none(pair):
    one, two = pair
    assert one.claim(UNIT)
    one.add(UNIT, MEASURED, [])
    assert rows(one) == []
    assert not one.claim(UNIT)
    assert not two.claim(UNIT)


def test_a_unit_that_two_have_run_is_kept_once(pair):
    """As after a lease that ran out while its process was stopped."""
    one, two = pair
    assert one.claim(UNIT)
    one._database.execute("UPDATE claim SET until = 0")
    assert two.claim(UNIT)
    one.add(UNIT, MEASURED, [])
    two.add(UNIT, replace(MEASURED, main_score=0.5), [])
    assert two.units().main_score.tolist() == [0.25]
    assert rows(two) == []


def test_closing_ends_all_claims(pair, tmp_path):
    one, two = pair
    other = replace(UNIT, task="STS14")
    with Store(tmp_path) as three:
        assert three.claim(UNIT)
        assert three.claim(other)
    assert one.claim(UNIT)
    assert two.claim(other)


def test_a_killed_process_keeps_its_unit_from_nobody(tmp_path, run):
    process = run(CLAIMANT, tmp_path)
    assert process.stdout.readline() == "True\n"
    with Store(tmp_path) as store:
        assert not store.claim(UNIT)
        assert store.claim_of_another(UNIT).until > time.time() + claims.LEASE / 2, "of a lease that has just begun"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        assert store.claim(UNIT)


def test_of_processes_elsewhere_only_the_lease_counts(pair):
    store, _ = pair
    now, number = time.time(), 2**22 + 1  # beyond the numbers of processes
    here, elsewhere = claims._host(), "elsewhere/1"
    for owner, until, free in [
        (f"{elsewhere} {number} x", now + 60, False),
        (f"{elsewhere} {number} x", now - 1, True),
        (f"{here} {number} x", now + 60, True),
        (f"{here} {os.getpid()} x", now + 60, False),
        (f"{here} {os.getpid()} x", now - 1, True),
        (f"{here} 1 x", now + 60, False),
    ]:
        store._database.execute("INSERT OR REPLACE INTO claim VALUES (?, ?, ?)", (UNIT.id, owner, until))
        assert (store.claim_of_another(UNIT) is None) == free
        assert store.claim(UNIT) == free, (owner, until - now)


def test_a_claim_is_renewed_for_as_long_as_the_store_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "RENEW", 0.01)
    monkeypatch.setattr(claims, "LEASE", 1000.0)
    with Store(tmp_path) as store, Store(tmp_path) as other:
        assert other.claim(replace(UNIT, task="STS14"))
        assert store.claim(UNIT)
        store._database.execute("UPDATE claim SET until = 5")
        wait_until(lambda: all(until > time.time() + 900 for *_, until in rows(store)))
        store.close()
        other._database.execute("DELETE FROM claim WHERE owner = ?", (other._owner,))
        assert rows(other) == []
        assert not store._heartbeat


def test_a_store_that_was_moved_away_is_not_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "RENEW", 0.001)
    (tmp_path / "out").mkdir()
    beat = claims.Heartbeat(tmp_path / "out" / "results.sqlite", "host 1 x")
    tried = []
    connect = claims.sqlite3.connect
    monkeypatch.setattr(claims.sqlite3, "connect", lambda *given, **more: tried.append(1) or connect(*given, **more))
    wait_until(lambda: len(tried) > 3)
    beat.stop()
    assert list((tmp_path / "out").iterdir()) == []


# Runs what nobody else runs, in an order of its own, until all is finished; says what it ran. One is killed at its third.
SHARER = """
import random
units = [Unit("m", "a", str(n), "STS", "test", "default", "1.0", "all", "both", 8, "float32", "b") for n in range(40)]
seed, ran = int(sys.argv[3]), []
random.Random(seed).shuffle(units)
with Store(sys.argv[2]) as store:
    while units:
        unit = units.pop(0)
        if store.claim(unit):
            ran.append(unit.task)
            print(unit.task, flush=True)
            if seed == 0 and len(ran) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.002)
            store.add(unit, Measured(0.0, "x", "mean", "cpu", "{}", "", 0.0, 0), [])
        elif not store.finished(unit):
            units.append(unit)
"""


def test_processes_with_different_orders_share_the_work_also_when_one_is_killed(tmp_path, run):
    killed = run(SHARER, tmp_path, 0)
    assert killed.stdout.readline()
    others = [run(SHARER, tmp_path, seed) for seed in (1, 2, 3)]
    by_killed = killed.communicate(timeout=120)[0].split()
    ran = [task for process in others for task in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in (killed, *others)] == [-signal.SIGKILL, 0, 0, 0]
    assert len(by_killed) == 2, "and one before"
    assert by_killed[-1] in ran, "it had begun this one, and not finished"
    assert len(ran) == len(set(ran)) == 38
    with Store(tmp_path) as store:
        assert len(store.units()) == 40
        assert rows(store) == []
