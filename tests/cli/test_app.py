"""The command line, as a user calls it."""

import re
from importlib.metadata import version

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from support.command import invoke, run

import tempscale


def test_version():
    result = run("--version")
    assert result.returncode == 0
    lines = dict(line.split() for line in result.stdout.splitlines())
    assert lines["tempscale"] == tempscale.__version__ == version("tempscale")
    assert lines.keys() >= {"tempscale", "torch", "transformers", "sentence-transformers", "tokenizers", "numpy"}
    assert all(lines[package] == version(package) for package in lines)


def test_wrong_arguments_exit_with_2_and_no_traceback():
    result = run("no-such-command")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_fold_writes_a_model_that_needs_no_tempscale(minilm, tmp_path):
    result = run("fold", "minilm", "0.8", str(tmp_path / "new" / "model"))
    assert result.returncode == 0, result.stderr
    found = re.fullmatch(
        r"(.*): temperature 0\.8 in 6 layers of BertModel; .* differ from the patched model's by (.*) at most\.\n",
        result.stdout,
    )
    assert found
    assert float(found[2]) < 1e-6
    with tempscale.patch(minilm, 0.8):
        patched = minilm.encode(["some text"])
    assert np.abs(SentenceTransformer(found[1], device="cpu").encode(["some text"]) - patched).max() < 1e-6
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]
    again = invoke("fold", found[1], "0.9", str(tmp_path / "twice"))
    assert (again.returncode, again.stdout) == (1, "")
    assert "has the temperature 0.8 folded into its weights: load the original model" in again.stderr
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("minilm", "0", "out"), 2, "temperature must be a finite positive number, not 0.0"),
        (("minilm", "nan", "out"), 2, "temperature must be a finite positive number, not nan"),
        (("minilm", "cold", "out"), 2, "Invalid value"),
        (("minilm", "0.9", "."), 2, "exists and is not an empty folder: name a new one"),
        (("minilm", "0.9", "file"), 2, "file exists and is not an empty folder: name a new one"),
        (("minilm", "0.9", "file/out"), 2, "file/out cannot be made: file is not a folder"),
        (("no/such/folder", "0.9", "out"), 1, "cannot load 'no/such/folder'"),
        (("minilm",), 2, ""),  # typer's own message, which differs between its versions
    ],
)
def test_fold_says_in_one_sentence_what_is_wrong(arguments, status, message, tmp_path):
    (tmp_path / "file").touch()
    result = invoke("fold", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in " ".join(result.stderr.replace("\u2502", " ").split())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
