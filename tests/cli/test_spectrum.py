"""`tempscale spectrum`, as a user calls it."""

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.command import invoke, run

from tempscale import RateMatched, docstrings, patch, probe
from tempscale.cli.spectrum import draw, summarise


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectrum")
    texts = docstrings(["numpy"], min_tokens=100).body.tolist()[:4]
    pd.DataFrame({"text": texts, "n": range(4)}).to_csv(folder / "texts.csv", index=False)
    command = "spectrum minilm --texts texts.csv --column text --lengths 32,8 --temperatures 1.0,0.5"
    command += " --match-length 8 --out new/out"
    return folder / "new" / "out", command, run(*command.split(), cwd=folder), texts


def test_the_file_holds_what_probe_reads(measured, minilm):
    out, command, result, texts = measured
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(out / "spectrum.csv", comment="#")
    assert len(table) == 4 * 2 * 2 * 72
    # The texts come in another order.
    with patch(minilm, 0.5):
        expected = probe(minilm, texts, max_tokens=32)
    found = table[(table.tokens == 32) & (table.temperature == 0.5)]
    assert list(found.columns) == [*expected.columns, "schedule"]
    for column in expected.columns:
        np.testing.assert_allclose(np.sort(found[column]), np.sort(expected[column]), rtol=1e-3, err_msg=column)
    facts = dict(line[2:].split(": ", 1) for line in (out / "spectrum.csv").read_text().splitlines() if line[0] == "#")
    assert facts["model"] == "minilm"
    assert facts["weights"] == "sha256 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert facts["texts"].startswith("4, sha256 ")
    assert "torch 2." in facts["versions"]
    assert facts["command"].endswith(command.removeprefix("spectrum"))


def test_the_table_is_the_files_mean_with_its_interval(measured):
    out, _, result, _ = measured
    assert len(re.findall(r"│ +(1\.0|0\.5) │ +(8|32) │ +[1-6] │", result.stdout)) == 24
    table = pd.read_csv(out / "spectrum.csv", comment="#")
    layer = table[(table.temperature == 1) & (table.tokens == 32) & (table.layer == 2)]
    per_text = layer.groupby("text").filter_rate.mean()
    low, high = stats.t.interval(0.95, 3, per_text.mean(), stats.sem(per_text))
    row = rf"1\.0 │ +32 │ +3 │ +{per_text.mean():.2f} │ \[{low:.2f}, {high:.2f}\] │ +{(layer.filter_rate > 1).mean():.0%} "
    assert re.search(row, result.stdout)
    summary = summarise(table)
    assert summary[["schedule", "tokens"]].drop_duplicates().to_numpy().tolist() == [
        [1, 8],
        [1, 32],
        [0.5, 8],
        [0.5, 32],
    ]


def test_the_figure(measured):
    figure = (measured[0] / "spectrum.svg").read_text()
    assert figure.startswith("<?xml")
    assert "temperature" not in measured[2].stderr
    assert "4 texts" in measured[2].stderr


def test_drawing_leaves_the_settings_of_matplotlib(measured, tmp_path):
    summary = summarise(pd.read_csv(measured[0] / "spectrum.csv", comment="#"))
    with mpl.rc_context({"lines.linewidth": 7.5}):
        before = dict(mpl.rcParams)
        draw(summary, tmp_path / "figure.svg")
        assert dict(mpl.rcParams) == before
    figure = (tmp_path / "figure.svg").read_text()
    assert "stroke-width: 1.8" in figure, "the book's look"
    assert "stroke-width: 7.5" not in figure, "and not the caller's"


def test_match_length_writes_a_schedule_and_spectrum_reads_it(measured, minilm, tmp_path):
    out, _, result, texts = measured
    schedule = RateMatched.load(out / "rate_matched.json")
    assert (schedule.reference_length, schedule.lengths, len(schedule.temperatures)) == (8, (32,), 6)
    assert schedule.about["model"] == "minilm"
    assert schedule.about["texts"].startswith("4, sha256 ")
    for layer, (row, misfit) in enumerate(zip(schedule.temperatures, schedule.misfits, strict=True), 1):
        assert re.search(rf"│ +{layer} │ +{row[0]:.3f} \({misfit[0]:+.1%}\) │".replace("+0", r"\+0"), result.stdout)
    assert f"rate_matched.json: the filter rates miss their targets by {schedule.residual:.1%} at most" in result.stderr
    command = f"spectrum minilm --texts texts.csv --column text --lengths 32 --out {tmp_path} --temperatures"
    again = invoke(*command.split(), f"{out / 'rate_matched.json'},LogLength(8)", cwd=out.parent.parent)
    assert again.returncode == 0, again.stderr
    table = pd.read_csv(tmp_path / "spectrum.csv", comment="#")
    assert table.schedule.unique().tolist() == [
        str(schedule),
        "LogLength(reference_length=8, temperature=1.0, exponent=1.0)",
    ]
    found = table[table.schedule == str(schedule)]
    np.testing.assert_allclose(
        found.groupby("layer").temperature.first(), [r[0] for r in schedule.temperatures], rtol=1e-3
    )
    rates = np.log(found.filter_rate).groupby(found.layer).mean()
    target = probe(minilm, texts, max_tokens=8)
    target = np.log(target.filter_rate).groupby(target.layer).mean()
    np.testing.assert_allclose(np.expm1(rates - target), [row[0] for row in schedule.misfits], atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("minilm", "--lengths", "16,x"), 2, "--lengths '16,x': 'x' is no number; expected numbers with commas"),
        (("minilm", "--lengths", "2"), 2, "--lengths '2': a text of 2 tokens is no signal; expected at least 3"),
        (("minilm", "--lengths", "513"), 2, "--lengths '513': minilm has positions for 512 tokens, not for 513"),
        (("minilm", "--temperatures", "0"), 2, "--temperatures '0': temperature must be a finite positive number"),
        (("minilm", "--temperatures", ""), 2, "--temperatures '': '' is no temperature; expected numbers or schedules"),
        (("minilm", "--match-length", "16"), 2, "--match-length 16 writes a file: name a folder with --out"),
        (
            ("minilm", "--match-length", "256", "--out", "new"),
            2,
            "--match-length 256: expected at least 3 tokens, and a",
        ),
        (("minilm", "--column", "text"), 2, "--column 'text' is for a file of texts: name one with --texts"),
        (("minilm", "--out", "file/out"), 2, "file/out cannot be made: file is not a folder"),
        (("minilm", "--out", "taken"), 2, "taken/spectrum.csv exists: name another folder, or move it away"),
        (("minilm", "--texts", "none.txt"), 2, "--texts: cannot read none.txt"),
        (
            ("minilm", "--texts", "short.txt"),
            1,
            "none of 2 different texts has 256 tokens: give at least two that long",
        ),
        (("no/such/folder", "--texts", "short.txt"), 1, "cannot load 'no/such/folder'"),
    ],
)
def test_one_sentence_says_what_is_wrong(arguments, status, message, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "short.txt").write_text("a short text\nanother one\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "spectrum.csv").touch()
    result = invoke("spectrum", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in " ".join(result.stderr.split())
    assert {path.name for path in tmp_path.iterdir()} == {"file", "short.txt", "taken"}
