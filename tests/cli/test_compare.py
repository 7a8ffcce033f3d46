"""`tempscale compare`, as a user calls it."""

import io
import json
import re
from collections import Counter
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
    return command.invoke("compare", *arguments)


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
    written = command.run("compare", results, "--format", "csv")
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
    title, table, by_length, lengths, caption, conclusion = (
        run(results, "--format", "markdown", "--by", "length").stdout.strip().split("\n\n")
    )
    assert title == "**minilm, 256 tokens, float32**"
    row = expected[expected.scope == "task"].iloc[1]
    numbers = {name: 100 * row[name] for name in ("baseline", "difference", "low", "high")}
    assert table.splitlines() == [
        "|  | baseline | 0.9 |",
        "| --- | ---: | ---: |",
        "| Clusters | 50.00 | -20.00 |",
        "| LEMBPasskeyRetrieval test_256 | {baseline:.2f} | {difference:+.2f}** [{low:+.2f}, {high:+.2f}] |".format(
            **numbers
        ),
    ]
    assert by_length == "By length, p after Holm's correction over the 4 length bins of this setting"
    assert [line.count("|") for line in lengths.splitlines()] == [9] * (2 + 4)
    assert "Holm's correction over the only task of this setting; ** also over the 1 difference on tasks." in caption
    assert conclusion == (
        "1 of 1 difference on tasks is more than chance after the correction over all of them (1 up, 0 down): 0.9 on "
        f"LEMBPasskeyRetrieval {numbers['difference']:+.2f}."
    )


def test_names_are_cells_of_their_own_in_markdown(monkeypatch, expected):
    lines = in_process(monkeypatch, expected.assign(task="a|b.csv"), None, "--format", "markdown").splitlines()
    assert lines[4].startswith("| a\\|b.csv | 50.00 |")


def test_table_shows_rows_asked_for_also_in_a_pipe(results, expected):
    written = run(results, "--by", "length", "--by", "part")
    assert written.returncode == 0
    for row in expected.itertuples():
        assert f"{100 * row.difference:+.2f}" in written.stdout
    assert "LEMBPasskeyRetrieval test_256" in written.stdout


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
    assert [line for line in lines if line.startswith("|  |")] == [
        "|  | baseline | 1.0 pieces(128) | falling#0a1b2c3d |",
        "|  | baseline | 1.0 |",
    ]
    assert "STS12" not in written.stdout


def test_files_to_publish(several, tmp_path):
    out = tmp_path / "new" / "files"
    arguments = [several, "--against", "minilm", "--format", "json", "--out", out]
    written = command.run("compare", *arguments)
    assert written.returncode == 0, written.stderr
    assert f"Wrote comparison.csv and units.csv into {out}" in written.stderr
    assert sorted(path.name for path in out.iterdir()) == ["comparison.csv", "units.csv"]
    tables = {path.stem: pd.read_csv(path, comment="#", keep_default_na=False) for path in out.iterdir()}
    for path in out.iterdir():
        called, version = path.read_text().splitlines()[:2]
        assert called == "# command: tempscale compare " + " ".join(map(str, arguments))
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


def in_process(monkeypatch, frame, columns, *arguments):
    """Return what is printed of a comparison on a terminal of so many columns, or in a pipe."""
    monkeypatch.setattr("tempscale.comparison.compare.compare", lambda *_, **__: frame)
    if columns is not None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("COLUMNS", str(columns))
    written = CliRunner().invoke(app, ["compare", ".", *arguments])
    assert written.exit_code == 0, written.output
    return written.stdout


def made_up(tasks, settings):
    """Return a comparison with numbers that all differ from each other."""
    rng = np.random.default_rng(3)
    labels = [f"LongNameOfTask{number}Classification" for number in range(tasks)]
    rows = []
    for scope, task in [*(("task", label) for label in labels), ("overall", "")]:
        baseline = rng.random()
        for number in range(settings):
            low, difference, high = np.sort(rng.normal(0, 0.1, 3))
            rows.append(
                {
                    "scope": scope,
                    "task": task,
                    "temperature": f"LogLength(reference_length={number})" if number % 3 else repr(1 + number / 10),
                    "baseline": baseline,
                    "difference": difference,
                    "low": low,
                    "high": high,
                    "p_holm": rng.choice([0.01, 1]),
                    "p_holm_all": rng.choice([0.01, 1]),
                    "tasks": tasks if scope == "overall" else np.nan,
                }
            )
    usual = {
        "model": "minilm",
        "max_seq_length": 256,
        "dtype": "float32",
        "layers": "all",
        "apply_to": "both",
        "remedy": "",
        "model_hash": "m",
        "against": "minilm",
        "data_hash": "d",
        "interval": "items",
        "family": "all",
        "split": "test",
        "subset": "default",
        "prompts": "",
    }
    return pd.DataFrame(rows).assign(**usual).reindex(columns=COLUMNS)


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
@pytest.mark.parametrize(("tasks", "settings"), [(1, 1), (2, 3), (3, 30), (30, 3), (20, 20)])
def test_every_number_is_whole_in_a_terminal_of_any_width(tasks, settings, columns, monkeypatch):
    frame = made_up(tasks, settings)
    text = in_process(monkeypatch, frame, columns)
    assert max(map(len, text.splitlines())) <= max(80, columns)
    table = text[: text.index("Scores and differences")]
    shown = frame[(frame.scope == "task") | (frame.tasks > 1)]
    means = frame[frame.tasks > 1]
    signed = Counter(re.findall(r"[+-]\d+\.\d\d(?!\d)", table))
    differences = Counter(f"{100 * value:+.2f}" for value in shown.difference)
    in_cells, in_means = (
        Counter(f"{100 * value:+.2f}" for value in [*rows.low, *rows.high]) for rows in (shown, means)
    )
    assert signed in (differences + in_cells, differences + in_means)
    halves = Counter(re.findall(r"(?<=±)\d+\.\d\d", table))
    tasks_alone = shown[shown.scope == "task"]
    expected = Counter(f"{100 * (row.high - row.low) / 2:.2f}" for row in tasks_alone.itertuples())
    assert halves in (Counter(), expected)
    unsigned = re.findall(r"(?<![-+±.\d])\d+\.\d\d(?!\d)", table)
    assert sorted(unsigned) == sorted(f"{100 * value:.2f}" for value in shown.groupby("task").baseline.first())
    marks = (shown.p_holm <= 0.05).sum(), ((shown.p_holm <= 0.05) & (shown.p_holm_all <= 0.05)).sum()
    assert (len(re.findall(r"\d\*", table)), table.count("**")) == marks


SMALL = made_up(2, 2).assign(
    task=["STS16", "STS16", "SciFact", "SciFact", "", ""],
    temperature=["0.9", "0.8"] * 3,
    baseline=[0.7899, 0.7899, 0.654, 0.654, 0.722, 0.722],
    difference=[0.0041, -0.1032, 0.0, -0.0073, 0.0021, -0.0553],
    low=[0.001, -0.15, -0.002, -0.0191, -0.0001, -0.0801],
    high=[0.0072, -0.0612, 0.0022, 0.0043, 0.0041, -0.03],
    p_holm=[0.03, 0.001, 1, 1, 1, 0.04],
    p_holm_all=[0.06, 0.004, 1, 1, 1, 0.06],
)


SEVEN = SMALL[SMALL.temperature == "0.8"].assign(temperature="0.7")
LAST = [SMALL[SMALL.temperature == "0.8"].assign(layers=f"last:{number}") for number in (1, 2)]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            SMALL,
            """
                 baseline                     0.9                       0.8
───────────────  ────────  ──────────────────────  ────────────────────────
STS16               78.99  +0.41*  [+0.10, +0.72]  -10.32** [-15.00, -6.12]
SciFact             65.40  +0.00   [-0.20, +0.22]    -0.73   [-1.91, +0.43]
mean of 2 tasks     72.20  +0.21   [-0.01, +0.41]    -5.53*  [-8.01, -3.00]
""",
        ),
        (
            pd.concat([SMALL, SEVEN]),
            """
                 baseline             0.9             0.8             0.7
───────────────  ────────  ──────────────  ──────────────  ──────────────
STS16               78.99   +0.41*  ±0.31  -10.32** ±4.44  -10.32** ±4.44
SciFact             65.40   +0.00   ±0.21   -0.73   ±1.17   -0.73   ±1.17
mean of 2 tasks     72.20   +0.21           -5.53*          -5.53*
                           [-0.01, +0.41]  [-8.01, -3.00]  [-8.01, -3.00]
""",
        ),
        (
            # more settings than tasks, for which there is no room side by side
            pd.concat([SMALL, *LAST]).query("task != 'SciFact'"),
            """
                                    STS16         mean of 2 tasks
───────────────  ────────────────────────  ──────────────────────
baseline                            78.99                   72.20
0.9                +0.41*  [+0.10, +0.72]  +0.21   [-0.01, +0.41]
0.8              -10.32** [-15.00, -6.12]  -5.53*  [-8.01, -3.00]
0.8 last:1 both  -10.32** [-15.00, -6.12]  -5.53*  [-8.01, -3.00]
0.8 last:2 both  -10.32** [-15.00, -6.12]  -5.53*  [-8.01, -3.00]
""",
        ),
        (
            # the means are one column then, and show their intervals beside them
            pd.concat([SMALL, *LAST]),
            """
                          STS16        SciFact         mean of 2 tasks
───────────────  ──────────────  ─────────────  ──────────────────────
baseline                  78.99          65.40                   72.20
0.9               +0.41*  ±0.31  +0.00   ±0.21  +0.21   [-0.01, +0.41]
0.8              -10.32** ±4.44  -0.73   ±1.17  -5.53*  [-8.01, -3.00]
0.8 last:1 both  -10.32** ±4.44  -0.73   ±1.17  -5.53*  [-8.01, -3.00]
0.8 last:2 both  -10.32** ±4.44  -0.73   ±1.17  -5.53*  [-8.01, -3.00]
""",
        ),
    ],
)
def test_cells_say_as_much_as_fits(frame, expected, monkeypatch):
    lines = in_process(monkeypatch, frame.reset_index(drop=True), 80).splitlines()
    assert lines[2 : lines.index("", 2)] == expected.strip("\n").splitlines()


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("by", [(), ("length",), ("part", "length")])
def test_details_are_whole_on_request(detailed, columns, by, monkeypatch):
    with pytest.warns(UserWarning, match="older results under the same name"):
        frame = compare(detailed)
    text = in_process(monkeypatch, frame, columns, *(part for one in by for part in ("--by", one)))
    assert max(map(len, text.splitlines())) <= columns
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for row in frame[frame.scope.isin(by)].itertuples():
        values = [100 * value for value in (row.baseline, row.difference, row.low, row.high)]
        numbers = "{:.2f} {:+.2f} [{:+.2f}, {:+.2f}] {:.2g}".format(*values, row.p_holm)
        assert any(numbers in line for line in lines), numbers
    assert ("By length" in text, "On the splits and subsets of a task" in text) == ("length" in by, "part" in by)


def test_closing_sentences(detailed):
    written = run(detailed)
    words = " ".join(written.stdout.split())
    assert (
        "2 of 4 differences on tasks are more than chance after the correction over all of them (0 up, 2 down): "
        in words
    )
    assert "; the mean over tasks changes at " in words
    assert "The setting best on the other tasks changes the score of the one left out by " in words
    assert "both sides together, those longer than 256 tokens were cut: 31 % of SciFact" in words
    assert "In front of the texts was put 'query: ' (queries): SciFact" in words
    assert written.stderr.splitlines() == [
        "tempscale: older results under the same name are left out (SciFact, 3 of 6 units of other data): versions='all' "
        "(--versions all) shows them, too"
    ]
    both = run(detailed, "--versions", "all", "--format", "markdown")
    assert both.stderr == ""
    tasks = re.findall(r"^\| (\w.*?) \|", both.stdout, re.MULTILINE)
    assert tasks == ["AVeryLongNameOfATaskClassification", "SciFact (d0)", "SciFact (d1)", "mean of 2 tasks"]


def test_published_units_are_those_compared(detailed, tmp_path):
    for versions, states in (("newest", {"d1"}), ("all", {"d0", "d1"})):
        written = run(detailed, "--versions", versions, "--out", tmp_path / versions, "--items")
        assert written.returncode == 0, written.stderr
        units, items = (pd.read_csv(tmp_path / versions / f"{name}.csv", comment="#") for name in ("units", "items"))
        assert set(units.data_hash) == states
        assert len(items) == 60 * (2 + len(states))
        assert ("data_hash" in items) == (len(states) > 1)
