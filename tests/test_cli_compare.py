"""`tempscale compare`, as a user calls it."""

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tempscale.compare import COLUMNS, compare
from tempscale.store import Item, Measured, Store, Unit

COMMAND = [sys.executable, "-c", "from tempscale.cli import app; app()", "compare"]


def run(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two tasks: one gains clearly, one without scores of items; and one task without a baseline."""
    out, rng = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    before = rng.random(60)
    with Store(out) as store:
        for task, split, temperature, gain, statistic in [
            ("LEMBPasskeyRetrieval", "test_256", "1.0", 0, "mean"),
            ("LEMBPasskeyRetrieval", "test_256", "0.9", 0.1, "mean"),
            ("Clusters", "test", "1.0", 0, "none"),
            ("Clusters", "test", "0.9", -0.2, "none"),
            ("Alone", "test", "0.9", 0, "mean"),
        ]:
            unit = Unit("minilm", "m", task, "", split, "default", temperature, "all", "both", 256, "float32", "d")
            scores = before + gain + rng.normal(0, 0.01, 60)
            items = [Item(str(i), i, score) for i, score in enumerate(scores)] if statistic == "mean" else []
            main = float(scores.mean()) if items else 0.5 + gain
            store.add(unit, Measured(main, "ndcg_at_10", statistic, "cpu", "{}", "", 1.0, 1), items)
    return out


@pytest.fixture(scope="module")
def expected(results):
    with pytest.warns(UserWarning, match="left out: Alone"):
        return compare(results)


def test_csv_and_json_hold_everything(results, expected):
    said = (
        "tempscale: left out: Alone (test, default) has no result of minilm at the baseline temperature 1 "
        "on the same data"
    )
    written = run(results, "--format", "csv")
    assert (written.returncode, written.stderr.strip()) == (0, said)
    frame = pd.read_csv(io.StringIO(written.stdout), keep_default_na=False, na_values={"low": "", "p": ""})
    assert list(frame.columns) == COLUMNS
    assert np.allclose(frame.low, expected.low, rtol=1e-4, equal_nan=True)
    assert frame.task.tolist() == expected.task.tolist()
    records = json.loads(run(results, "--format", "json").stdout)
    assert [record["scope"] for record in records] == expected.scope.tolist()
    assert np.allclose([record["difference"] for record in records], expected.difference)
    assert next(record for record in records if record["task"] == "Clusters")["low"] is None


def test_markdown(results, expected):
    lines = run(results, "--format", "markdown").stdout.splitlines()
    assert lines[0] == "**minilm, 256 tokens, float32**"
    assert {line.count("|") for line in lines[2:]} == {10}
    assert len(lines) == len(expected) + 4
    (passkey,) = [line for line in lines if line.startswith("| task | LEMB")]
    row = expected[expected.scope == "task"].iloc[1]
    assert passkey == (
        f"| task | LEMBPasskeyRetrieval test_256 |  | 0.9 | 60 | {row.baseline:.4f} | {row.difference:+.4f} "
        f"| [{row.low:+.4f}, {row.high:+.4f}] | {row.p_holm:.2g}* |"
    )
    assert "| task | Clusters |  | 0.9 | 0 | 0.5000 | -0.2000 |  |  |" in lines


def test_table_shows_every_row_also_in_a_pipe(results, expected):
    written = run(results)
    assert written.returncode == 0
    for row in expected.itertuples():
        assert f"{row.difference:+.4f}" in written.stdout
    assert "LEMBPasskeyRetrieval test_256" in written.stdout
    assert "p at most 0.05 after Holm's correction" in written.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--baseline", "0.5"), 1, "no results of minilm at the baseline temperature 0.5, only 0.9, 1.0"),
        (("--baseline", "-1"), 2, "--baseline: temperature must be a finite positive number, not -1.0"),
        (("--format", "xml"), 2, "xml"),
    ],
)
def test_one_sentence_says_what_is_wrong(results, arguments, status, message):
    written = run(results, *arguments)
    assert (written.returncode, written.stdout) == (status, "")
    assert message in written.stderr
    assert "Traceback" not in written.stderr


def test_folders_without_results(tmp_path):
    missing = run(tmp_path / "missing")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "missing is no folder: name the one that tempscale evaluate wrote with --out" in missing.stderr
    empty = run(tmp_path)
    assert (empty.returncode, empty.stdout) == (1, "")
    assert "no results in" in empty.stderr
    assert list(tmp_path.iterdir()) == []
