"""`tempscale advise` as it is typed: pairs, texts alone, stored vectors; what it prints, and what it leaves in folders."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

pytest.importorskip("mteb", reason="mteb is not installed: pip install 'tempscale[eval]'")

from support.arrays import read_arrays
from support.evaluation import WORDS, write_model

import tempscale
from tempscale.cli.app import app

RELOADED = """
import sys
sys.modules["tempscale"] = None  # cannot be imported
import numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
np.savez(sys.argv[2], q=model.encode_query(["ba bo bi"]), d=model.encode_document(["so fa re"]))
"""


def run(*arguments):
    return CliRunner().invoke(app, ["advise", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("advise")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, n)) for n in rng.integers(20, 60, size=60)]
    frame = pd.DataFrame({"query": [" ".join(text.split()[3:6]) for text in texts], "document": texts})
    frame.to_csv(made / "pairs.csv", index=False)
    frame[["document"]].to_csv(made / "texts.csv", index=False)
    write_model(made)
    return made


def stored(rng, n=200, gain=3.0, d=24):
    """Vectors of unequal lengths whose sides differ by a mean that hides what they share."""
    shared = rng.normal(size=(n, d))
    queries, documents = (shared + rng.normal(size=(n, d)) + gain * rng.normal(size=d) for _ in range(2))
    return queries, documents * np.exp(rng.normal(size=(n, 1)))


@pytest.mark.filterwarnings("ignore")
def test_pairs(folder, tmp_path):
    arguments = (
        folder / "model",
        folder / "pairs.csv",
        "--remedies",
        "project,temperature(0.5)",
        "--out",
        tmp_path / "out",
    )
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(("Nothing to recommend: ", "Take away", "A temperature"))
    assert "3 settings on 60 queries and 60 documents: about" in result.stderr
    table = pd.read_csv(tmp_path / "out" / "remedies.csv", comment="#")
    assert table.remedy.tolist() == ["project", "temperature(0.5)"]
    scores = pd.read_csv(tmp_path / "out" / "scores.csv", comment="#")
    assert (scores["project"] - scores["none"]).mean() == pytest.approx(table.difference[0], abs=1e-4)
    assert "<table" in (tmp_path / "out" / "report.html").read_text("utf-8")
    again = run(*arguments)
    assert again.exit_code == 0
    assert again.stdout == result.stdout
    assert "ndcg_at_10" not in again.stderr, "nothing is measured again"


@pytest.mark.filterwarnings("ignore")
def test_texts_alone(folder):
    result = run(folder / "model", folder / "texts.csv")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Nothing can be chosen: ")
    assert "60 documents, of " in result.stdout
    refused = run(folder / "model", folder / "texts.csv", "--save", folder / "saved")
    assert refused.exit_code == 2
    assert "--save is for pairs, and" in refused.stderr


def test_vectors_are_saved_as_they_were_measured(tmp_path):
    queries, documents = stored(np.random.default_rng(0))
    np.savez(tmp_path / "stored.npz", queries=queries, documents=documents)
    result = run("--vectors", tmp_path / "stored.npz", "--save", tmp_path / "saved", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "of nDCG@10 on pairs that did not choose it." in " ".join(result.stdout.split())
    arrays = read_arrays(tmp_path / "saved" / "remedy.npz")

    def hits(queries, documents):
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, documents)]
        return ((unit[0] @ unit[1].T).argmax(1) == np.arange(len(queries))).mean()

    mapped = [
        x / np.linalg.norm(x, axis=1, keepdims=True) @ arrays[f"{side}_weight"].T + arrays[f"{side}_bias"]
        for side, x in (("query", queries), ("document", documents))
    ]
    assert hits(*mapped) > hits(queries, documents) + 0.1


def test_strangers_folders_are_left_alone(folder, tmp_path):
    (tmp_path / "scores.csv").write_text("mine")
    refused = run(folder / "model", folder / "pairs.csv", "--out", tmp_path)
    assert refused.exit_code == 2
    assert "is not empty and holds no results to go on with: name a new folder" in refused.stderr
    assert (tmp_path / "scores.csv").read_text() == "mine"
    both = run(folder / "model", folder / "pairs.csv", "--out", tmp_path / "a", "--save", tmp_path / "a")
    assert both.exit_code == 2
    assert "--out and --save are both" in both.stderr


@pytest.mark.filterwarnings("ignore")
def test_a_recommended_model_is_saved_and_needs_no_tempscale(folder, tmp_path, monkeypatch):
    """Whatever is recommended: here the choice is made to fall on the projection."""
    from tempscale.advice import advise as module

    chosen = module.choose
    monkeypatch.setattr(module, "choose", lambda *given, **options: chosen(*given, **options)._replace(chosen=0))
    saved = tmp_path / "saved"
    result = run(folder / "model", folder / "pairs.csv", "--remedies", "project", "--save", saved)
    assert result.exit_code == 0, result.output
    subprocess.run(
        [sys.executable, "-c", RELOADED, str(saved), str(tmp_path / "out.npz")], check=True, capture_output=True
    )
    found = read_arrays(tmp_path / "out.npz")
    plain = tempscale.load_model(str(folder / "model"), device="cpu")
    pairs = pd.read_csv(folder / "pairs.csv")
    for name, texts, new in (("q", pairs["query"], "ba bo bi"), ("d", pairs["document"], "so fa re")):
        mean = plain.encode(texts.tolist()).astype(np.float64).mean(0)
        direction = mean / np.linalg.norm(mean)
        (vector,) = plain.encode([new]).astype(np.float64)
        np.testing.assert_allclose(found[name][0], vector - (vector @ direction) * direction, atol=1e-5)


@pytest.mark.parametrize("command", ["advise", "evaluate"])
def test_without_mteb_the_extra_is_named(folder, command, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mteb", None)
    arguments = [folder, folder / "pairs.csv"] if command == "advise" else [folder, "--tasks", "STS12"]
    found = CliRunner().invoke(app, [command, *map(str, arguments), "--out", str(tmp_path / "out")])
    assert found.exit_code == 1
    assert found.stderr == (f"tempscale: {command} needs mteb, which is not installed: pip install 'tempscale[eval]'\n")
    assert not (tmp_path / "out").exists()
