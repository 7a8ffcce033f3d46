"""tempscale diagnose, as a user calls it."""

import csv
import json
import re

import pandas as pd
import pytest
from support.command import invoke, run

from tempscale import docstrings
from tempscale.embeddings.diagnosis import FEWEST


def test_a_csv_file_of_texts(tmp_path):
    frame = docstrings(["numpy", "scipy"])
    texts = frame[(frame.tokens >= 70) & (frame.tokens <= 90)].text[:40]
    with (tmp_path / "notes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "note"], *enumerate(texts)])
    arguments = ["minilm", "--texts", "notes.csv", "--column", "note", "--temperatures", "0.8", "--out", "new/out"]
    result = run("diagnose", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    said = result.stdout.splitlines()
    assert "Their mean cosine goes from" in said[0]
    assert said[0].startswith(("Yes", "No"))
    assert said[-1] == "    tempscale evaluate minilm --tasks pairs.csv --temperatures 1.0,0.9 --out results"
    assert said.index("What to do next:") < said.index("    tempscale advise minilm pairs.csv")
    assert re.search(r"Reading 40 texts\nAbout \d+ (s|min) on this machine\n(.*\n)*Embedding", result.stderr)
    assert "At temperature 0.8 the mean cosine at 64 tokens changes by" in " ".join(result.stdout.split())
    assert "effective rank" in result.stdout
    out = tmp_path / "new" / "out"
    names = ["cut.csv", "hubs.csv", "pooling.csv", "report.html", "temperatures.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert "Wrote new/out/report.html" in result.stderr
    lines = (out / "cut.csv").read_text().splitlines()
    assert lines[0] == "# command: tempscale diagnose " + " ".join(arguments)
    assert any(line.startswith("# weights: sha256 53aa51") for line in lines)
    cut = pd.read_csv(out / "cut.csv", comment="#")
    assert set(cut.length) == {16, 32, 64}
    hubs = pd.read_csv(out / "hubs.csv", skiprows=sum(line.startswith("# ") for line in lines))
    assert set(hubs.text) <= set(texts)
    again = invoke("diagnose", *arguments, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert "--out: new/out exists and is not an empty folder: name a new one" in again.stderr


def test_the_answer_stands_before_the_warnings(tmp_path, shallow_folder):
    """It says itself that they leave nothing of it. A schedule is a temperature, and 20 texts are enough."""
    frame = docstrings(["numpy", "scipy"])
    texts = frame[(frame.tokens >= 70) & (frame.tokens <= 90)].text[:20]
    (tmp_path / "mails.jsonl").write_text("\n".join(json.dumps({"text": f"Dear Sir, {text}"}) for text in texts))
    arguments = [shallow_folder, "--texts", "mails.jsonl", "--temperatures", "LogLength(16)"]
    result = invoke("diagnose", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    order = [
        "Nothing can be told: the texts begin alike, which can hide a rise. Their mean cosine goes from",
        "Warning: 20 of 20 texts begin with 'dear sir,', and short cuts are dominated by that",
        "Warning: With only 20 texts the intervals are wide",
        "From the first 16 tokens to 48",
        "At temperature LogLength(reference_length=16, temperature=1.0, exponent=1.0) the mean cosine at 64",
        "16 → 64 tokens",
        "The mean cosine is 1 if all embeddings point the same way, 0 if they have no direction in common. In brackets",
        "What to do next: - First do what the warning says, and run this again.",
    ]
    places = [said.index(part) for part in order]
    assert places == sorted(places)
    assert places[0] == 0


def test_the_help_says_how_many_texts_and_why():
    said = " ".join(invoke("diagnose", "--help").stdout.split())
    assert f"At least {FEWEST} different texts of 64 tokens are needed. With {FEWEST}, the interval of the rise" in said


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("minilm", "--texts", "none.txt"), 2, "--texts: cannot read none.txt: no such file or directory"),
        (("minilm", "--texts", "empty.txt"), 2, "--texts: empty.txt has no rows"),
        (("minilm", "--texts", "binary.txt"), 2, "--texts: binary.txt is a binary file"),
        (("minilm", "--texts", "latin.txt"), 2, "--texts: latin.txt was read as one text: put one text on a line"),
        (
            ("minilm", "--texts", "few.jsonl"),
            1,
            "0 of 2 different texts have 64 tokens: expected at least 20 such texts",
        ),
        (("minilm", "--texts", "few.jsonl", "--column", "no"), 2, "has no column 'no': its columns are 'text'"),
        (("minilm", "--column", "text"), 2, "--column 'text' is for a file of texts: name one with --texts"),
        (("minilm", "--temperatures", "1,0"), 2, "--temperatures '1,0': temperature must be a finite positive number"),
        (("minilm", "--temperatures", "1;2"), 2, "'1;2' is no temperature; expected numbers or schedules"),
        (("minilm", "--out", "."), 2, "--out: . exists and is not an empty folder"),
        (("minilm", "--out", "empty.txt/x"), 2, "--out: empty.txt/x cannot be made: empty.txt is not a folder"),
        (("no/such/model", "--texts", "few.jsonl"), 1, "cannot load 'no/such/model'"),
    ],
)
def test_one_sentence_for_what_is_wrong(arguments, status, message, tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"\0\1\2")
    (tmp_path / "latin.txt").write_bytes("größer\n".encode("latin-1"))
    (tmp_path / "few.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in ("one", "two")))
    before = sorted(tmp_path.iterdir())
    result = invoke("diagnose", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in " ".join(result.stderr.split())
    assert sorted(tmp_path.iterdir()) == before
