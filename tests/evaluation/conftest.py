"""What tests of evaluation share: tiny data with a cache of their own, processes that start at once, old stores."""

import hashlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import tempscale

# The package without what it imports (torch).
LIGHT = """
import os, signal, sys, time, types
package = sys.modules["tempscale"] = types.ModuleType("tempscale")
package.__path__ = [sys.argv[1]]
from tempscale.evaluation.store import Item, Measured, Store, Unit
"""


# Version 2 as tempscale 0.2 wrote it: its tables, its ids and its digests, written out.
SCHEMA_2 = """
CREATE TABLE IF NOT EXISTS unit (id TEXT PRIMARY KEY, model, model_hash, task, task_type, split, subset, temperature, layers,
    apply_to, max_seq_length, dtype, data_hash, chunk_tokens, main_score, metric, statistic, device, versions, command,
    seconds, tokens, scores, created, digest);
CREATE TABLE IF NOT EXISTS item (unit TEXT, position INTEGER, item TEXT, tokens INTEGER, score REAL, target REAL,
    cluster TEXT, PRIMARY KEY (unit, position)) WITHOUT ROWID;
"""
MEASURED_2 = ("main_score", "metric", "statistic", "device", "versions", "command", "seconds", "tokens", "scores")


def _write_2(folder, units):
    """Write a store of version 2 of units, what was measured, and items; pieces are those of chunk_tokens."""
    with sqlite3.connect(folder / "results.sqlite") as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(SCHEMA_2)
        for number, (unit, measured, items) in enumerate(units):
            described = {name: value for name, value in vars(unit).items() if name != "remedy"}
            described["chunk_tokens"] = int(unit.remedy[len("pieces(") : -1]) if unit.remedy else 0
            unit_id = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
            created = f"2026-11-20T10:{number:02d}:00+00:00"
            row = [unit_id, *described.values(), *(getattr(measured, name) for name in MEASURED_2), created]
            rows = [list(item[:5]) for item in items]
            digest = hashlib.sha256(json.dumps([row, rows]).encode()).hexdigest()
            database.execute(f"INSERT INTO unit VALUES ({', '.join('?' * 25)})", [*row, digest])
            numbered = [(unit_id, position, *item) for position, item in enumerate(rows)]
            database.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", numbered)
        database.execute("PRAGMA user_version = 2")
    database.close()


@pytest.fixture(scope="session")
def write_2():
    """Return the function that writes a store of version 2."""
    return _write_2


@pytest.fixture
def run():
    """Return a function that starts code with arguments, sys.argv[2:]; what still runs at the end is killed."""
    started = []

    def start(code, *arguments):
        command = [sys.executable, "-c", LIGHT + code, *map(str, (Path(tempscale.__file__).parent, *arguments))]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """Keep what datasets reads in a module's tests apart from all else."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.fixture(scope="module")
def data(tmp_path_factory, own_cache):
    """Return a folder with tiny data for every kind of task."""
    from support.evaluation import write_data

    return write_data(tmp_path_factory.mktemp("data"))
