"""`tempscale compare`, as a user calls it."""

import io
import json
import re
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
from support import command
from typer.testing import CliRunner

from tempscale.cli.app import app
from tempscale.comparison.compare import COLUMNS, compare
from tempscale.evaluation.store import Item, Measured, Store, Unit


def run(*arguments):
    return command.run("compare", *arguments)


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
        "tempscale: left out: Alone (test, default) has no result of minilm at the baseline temperature 1.0 "
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
    lines = run(results, "--format", "markdown", "--by", "length").stdout.splitlines()
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
    written = run(results, "--by", "length", "--by", "part")
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


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Two tasks, a model in pieces and at another temperature, and a whitened copy; a label with a comment sign."""
    out, rng = tmp_path_factory.mktemp("several") / "results", np.random.default_rng(1)
    with Store(out) as store:
        for task in ("STS12", "SciFact"):
            before = rng.random(40)
            for model, temperature, remedy in [
                ("minilm", "1.0", ""),
                ("minilm", "1.0", "pieces(128)"),
                ("minilm", "falling#0a1b2c3d", ""),
                ("white", "1.0", ""),
            ]:
                unit = Unit(
                    model,
                    model[:1],
                    task,
                    "",
                    "test",
                    "default",
                    temperature,
                    "all",
                    "both",
                    256,
                    "float32",
                    "d",
                    remedy,
                )
                scores = before + rng.normal(0, 0.1, 40) * (remedy != "" or model == "white")
                items = [Item(str(i), 3 * i + 2, score) for i, score in enumerate(scores)]
                measured = Measured(
                    float(scores.mean()), "accuracy", "mean", "cpu", '{"a": "1"}', "tempscale x", 1.5, 99, '{"s": 1}'
                )
                store.add(unit, measured, items)
    return out


def test_remedies_tasks_and_another_model_in_a_table(several):
    written = run(several, "--format", "markdown", "--tasks", "SciFact", "--against", "minilm")
    assert written.returncode == 0, written.stderr
    lines = written.stdout.splitlines()
    assert [line for line in lines if line.startswith("**")] == [
        "**minilm, 256 tokens, float32**",
        "**white, 256 tokens, float32, against minilm**",
    ]
    settings = [line.split(" | ")[3] for line in lines if line.startswith("| task |")]
    assert settings == ["1.0 pieces(128)", "falling#0a1b2c3d", "1.0"]
    assert "STS12" not in written.stdout


def test_files_to_publish(several, tmp_path):
    out = tmp_path / "new" / "files"
    arguments = [several, "--against", "minilm", "--format", "json", "--out", out]
    written = run(*arguments)
    assert written.returncode == 0, written.stderr
    assert f"Wrote comparison.csv and units.csv into {out}" in written.stderr
    assert sorted(path.name for path in out.iterdir()) == ["comparison.csv", "units.csv"]
    tables = {path.stem: pd.read_csv(path, comment="#", keep_default_na=False) for path in out.iterdir()}
    for path in out.iterdir():
        command, version = path.read_text().splitlines()[:2]
        assert command == "# command: tempscale compare " + " ".join(map(str, arguments))
        assert version == f"# tempscale: {metadata.version('tempscale')}"
    expected = compare(several, against="minilm")
    assert list(tables["comparison"].columns) == COLUMNS
    assert np.allclose(tables["comparison"].difference, expected.difference, rtol=1e-9, atol=0)
    assert tables["comparison"].temperature.astype(str).tolist() == expected.temperature.tolist()
    with Store(several) as store:
        units = store.units()
    assert "scores" not in tables["units"]
    assert set(tables["units"].columns) == set(units.columns) - {"scores"}
    assert np.allclose(tables["units"].main_score, units.main_score, rtol=1e-9)
    assert tables["units"].versions.tolist() == ['{"a": "1"}'] * 8
    again = run(*arguments)
    assert (again.returncode, again.stdout) == (2, "")
    assert "--out: " in again.stderr
    assert "exists and is not an empty folder: name a new one" in again.stderr


def test_files_of_chosen_tasks(several, tmp_path):
    arguments = ["--tasks", "SciFact", "--out", str(tmp_path / "files")]
    assert CliRunner().invoke(app, ["compare", str(several), *arguments]).exit_code == 0
    for name in ("comparison", "units"):
        table = pd.read_csv(tmp_path / "files" / f"{name}.csv", comment="#")
        assert set(table.task.dropna()) == {"SciFact"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "SciFact,STS99"), "no results of the task 'STS99': there are those of STS12, SciFact"),
        (("--tasks", ","), "no task to compare: name some of STS12, SciFact"),
        (
            ("--against", "mpnet"),
            "no results of the model 'mpnet' to compare against: there are those of minilm, white",
        ),
    ],
)
def test_what_is_not_in_the_folder_is_a_wrong_argument(several, arguments, message, tmp_path):
    result = CliRunner().invoke(app, ["compare", str(several), *arguments, "--out", str(tmp_path / "files")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"tempscale: {message}" in result.stderr
    assert not (tmp_path / "files").exists()


def test_items_to_publish(several, tmp_path):
    out = tmp_path / "files"
    written = run(several, "--tasks", "SciFact", "--out", out, "--items")
    assert written.returncode == 0, written.stderr
    wide = pd.read_csv(out / "items.csv", comment="#")
    assert wide.item.tolist() == list(range(40))
    assert set(wide.task) == {"SciFact"}
    with Store(several) as store:
        units = store.units().query("task == 'SciFact'")
        for unit in units.itertuples():
            label = f"{unit.model} 256 {unit.temperature} {unit.remedy}".rstrip()
            assert np.allclose(wide[label], store.items(unit.id).score, atol=1e-4)
    assert wide.shape[1] == 7 + len(units)


def test_items_need_a_folder(several):
    refused = run(several, "--items")
    assert refused.returncode == 2
    assert "name a folder for it with --out" in refused.stderr


@pytest.fixture(scope="module")
def detailed(tmp_path_factory):
    """Two tasks, one of two subsets with long names; texts that were cut and had prompts; data that changed."""
    out, rng = tmp_path_factory.mktemp("detailed"), np.random.default_rng(2)
    facts = {"prompts": '{"query": "query: ", "document": ""}', "cut": 0.31}
    with Store(out) as store:
        for data, task, subset in [
            ("d0", "SciFact", "default"),
            ("d1", "SciFact", "default"),
            ("d1", "AVeryLongNameOfATaskClassification", "a-subset"),
            ("d1", "AVeryLongNameOfATaskClassification", "another-subset"),
        ]:
            before = rng.random(60)
            for temperature, layers in [("1.0", "all"), ("0.9", "all"), ("LogLength(reference_length=128)", "last:3")]:
                unit = Unit("minilm", "m", task, "", "test", subset, temperature, layers, "both", 256, "float32", data)
                scores = before - rng.normal(0.1 if temperature != "1.0" else 0, 0.01, 60) * (
                    1 if task == "SciFact" else 0
                )
                items = [Item(str(i), i, score) for i, score in enumerate(scores)]
                more = facts if task == "SciFact" else {}
                measured = Measured(float(scores.mean()), "ndcg_at_10", "mean", "cpu", "{}", "", 1.0, 1, **more)
                store.add(unit, measured, items)
    return out


@pytest.mark.parametrize("columns", [40, 80, 100, 200])
@pytest.mark.parametrize("by", [(), ("length",), ("part", "length")])
def test_no_digit_is_cut_in_a_terminal_of_any_width(detailed, columns, by, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", str(columns))
    written = run(detailed, *(part for one in by for part in ("--by", one)))
    assert written.returncode == 0, written.stderr
    text = re.sub(r"\x1b\[[0-9;]*m", "", written.stdout)
    assert "\u2026" not in text
    assert "..." not in text
    assert max(map(len, text.splitlines())) <= max(80, columns)
    with pytest.warns(UserWarning, match="older results under the same name"):
        frame = compare(detailed, lengths="length" in by)
    shown = frame[~frame.scope.isin({"part", "length"} - set(by))]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for row in shown.itertuples():
        numbers = f"{row.baseline:.4f} {row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}] {row.p_holm:.2g}"
        assert any(numbers in line for line in lines), numbers
    assert ("By length" in text, "On the splits and subsets of a task" in text) == ("length" in by, "part" in by)


def test_closing_sentences(detailed):
    written = run(detailed)
    words = " ".join(written.stdout.split())
    assert ("Real differences (p at most 0.05 after Holm's correction): on a task 2 of 4 (0 up, 2 down): ") in words, (
        words
    )
    assert re.search(r"over all tasks 2 of 2 \(0 up, 2 down\)", words)
    assert "Texts longer than 256 tokens were cut: 31 % of SciFact" in words
    assert "In front of the texts was put 'query: ' (queries): SciFact" in words
    assert written.stderr.splitlines() == [
        "tempscale: older results under the same name are left out (SciFact, 3 of 6 units of other data): versions='all' "
        "(--versions all) shows them, too"
    ]
    both = run(detailed, "--versions", "all", "--format", "markdown")
    assert both.stderr == ""
    tasks = {line.split(" | ")[1] for line in both.stdout.splitlines() if line.startswith("| task |")}
    assert tasks == {"SciFact (d0)", "SciFact (d1)", "AVeryLongNameOfATaskClassification"}


def test_published_units_are_those_compared(detailed, tmp_path):
    for versions, states in (("newest", {"d1"}), ("all", {"d0", "d1"})):
        written = run(detailed, "--versions", versions, "--out", tmp_path / versions, "--items")
        assert written.returncode == 0, written.stderr
        units, items = (pd.read_csv(tmp_path / versions / f"{name}.csv", comment="#") for name in ("units", "items"))
        assert set(units.data_hash) == states
        assert len(items) == 60 * (2 + len(states))
        assert ("data_hash" in items) == (len(states) > 1)
