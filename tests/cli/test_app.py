"""The command line, as a user calls it."""

import errno
import os
import re
import signal
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from support.command import invoke, run
from support.process import start_program
from support.units import write_units

import tempscale


def test_version():
    """By the script that pip installs, in an interpreter that has imported nothing."""
    script = Path(sys.executable).with_name("tempscale")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, check=False, timeout=600)
    assert (result.returncode, result.stderr) == (0, "")
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


WHAT_MAY_HAPPEN = {
    "a bug": (
        ZeroDivisionError("division by zero"),
        r"unexpected ZeroDivisionError at .*:\d+ \(division by zero\); TEMPSC",
    ),
    "a key": (
        KeyError("text"),
        r"unexpected KeyError at .* \('text'\); TEMPSCALE_TRACEBACK=1 shows where it comes from",
    ),
    "a kind": (TypeError("not\na str"), r"unexpected TypeError at .* \(not a str\)"),
    "nothing": (AssertionError(), r"unexpected AssertionError at "),
    "full disk": (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/a"),
        r"cannot write /x/a \(No space left on device\): ",
    ),
    "full, in Rust": (
        SafetensorError("I/O error: No space left on device (os error 28)"),
        r"cannot write \(No space left",
    ),
    "weights": (
        SafetensorError("header too large"),
        r"cannot read a file of weights \(header too large\): it is damaged",
    ),
    "read-only": (
        OSError(errno.EROFS, "Read-only file system", "/x/a"),
        r"cannot use /x/a \(Read-only file system\): name",
    ),
    "read-only home": (
        PermissionError(errno.EACCES, "Permission denied", str(Path("~/.cache/huggingface/hub").expanduser())),
        r"huggingface/hub \(Permission denied\): models and data sets are kept there; name a folder .* in HF_HOME",
    ),
    "locked": (sqlite3.OperationalError("database is locked"), r"cannot use a database \(database is locked\): "),
    "no database": (
        sqlite3.DatabaseError("file is not a database"),
        r"cannot use a database \(file is not a database\)",
    ),
    "memory": (MemoryError(), r"not enough memory: "),
    "our own": (ValueError("temperature must be positive"), r"temperature must be positive$"),
    "surrogate": ("surrogate", r"a text has '\\ud800', half of a pair of surrogates and no character: "),
}


@pytest.mark.parametrize("what", WHAT_MAY_HAPPEN)
@pytest.mark.parametrize("traceback", [False, True])
def test_whatever_happens_in_a_command_is_one_sentence(what, traceback, monkeypatch, tmp_path, capfd):
    error, message = WHAT_MAY_HAPPEN[what]

    def load(_):
        if error == "surrogate":
            "a\ud800b".encode()
        raise error

    monkeypatch.setattr("tempscale.cli.app.load_model", load)
    monkeypatch.setenv("TEMPSCALE_TRACEBACK", "1" if traceback else "")
    result = invoke("fold", "minilm", "0.9", tmp_path / "out")
    assert (result.returncode, result.stdout) == (1, "")
    *before, last = result.stderr.splitlines()
    assert before[0] == "Loading minilm"
    assert re.match(f"tempscale: .*{message}", last), last
    assert ("Traceback" in "".join(before)) == traceback
    assert traceback or len(before) == 1
    assert not (tmp_path / "out").exists()


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device to write to")
@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("compare", ".", "--format", "csv")])
def test_a_full_output_is_one_sentence(arguments, several_results):
    command = [sys.executable, "-c", "from tempscale.cli.app import app; app()", *arguments]
    with FULL.open("w") as full:
        found = subprocess.run(command, stdout=full, stderr=-1, text=True, check=False, cwd=several_results)
    assert found.returncode == 1
    assert found.stderr == "tempscale: cannot write (No space left on device): make room, or write elsewhere\n"


@pytest.fixture
def several_results(tmp_path):
    write_units(tmp_path, tasks=1, settings=2)
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_is_said_and_leaves_nothing(sent, status, tmp_path):
    code = """
import sys, time
from tempscale.cli import app
def load(name):
    print("loading", flush=True)
    time.sleep(60)
app.load_model = load
app.app()
"""
    with start_program(code, "fold", "minilm", "0.9", tmp_path / "out") as process:
        process.wait_for("loading")
        os.kill(process.pid, sent)
        found = process.finish(timeout=60)
    assert (found.returncode, found.stderr) == (status, "Loading minilm\ntempscale: interrupted\n")
    assert not list(tmp_path.iterdir())
