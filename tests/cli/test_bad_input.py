"""Whatever a user gives to a command by mistake: a sentence and a status, and never a traceback."""

import io
import os

import numpy as np
import pytest
from typer.testing import CliRunner

from tempscale.cli.app import app

RUNNER = CliRunner()


def _npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


PAIRS = "".join(f"q{i},d{i},{{}}\n" for i in range(12))
FILES = {
    "empty.csv": "",
    "head.csv": "query,document\n",
    "one.csv": "query,document\na,b\n",
    "bin.csv": b"\x00\x01\x02",
    "latin.csv": "query;document\nça;é\n".encode("latin1"),
    "u16.csv": "query,document\na,b\n".encode("utf-16"),
    "short.csv": "query,document\na\n",
    "quote.csv": 'query,document\n"a,b\n',
    "dup.csv": "query,query\na,b\n",
    "bad.json": "{",
    "num.json": "[1,2]",
    "obj.json": '{"a":1}',
    "x.jsonl": '{"query": 1}\n',
    "x.parquet": "nope",
    "x.csv.gz": b"\x1f\x8bnope",
    "x.doc": "a",
    "texts.txt": "a\nb\n",
    "one_line.txt": "all of it",
    "results/results.sqlite": "not a database",
    "file": "x",
    "damaged/config.json": "{",
    "folder/empty": "",
    "folder.csv/empty": "",
    "grade.csv": "query,document,relevance\n" + PAIRS.format(*["x"] * 12),
    "negative.csv": "query,document,relevance\n" + PAIRS.format(*[-1] * 12),
    "null.csv": "query,document\n" + ",\n" * 20,
}
FILES["forty.csv"] = "query,document\n" + "".join(f"question {k},document {k}\n" for k in range(40))
FILES["x.npz"], FILES["few.npz"] = (
    _npz(queries=np.ones((3, 2))),
    _npz(queries=np.ones((3, 2)), documents=np.ones((3, 2))),
)
ADVISED = [
    name for name in FILES if name.endswith((".csv", ".json", ".jsonl", ".parquet", ".gz")) and name != "forty.csv"
]
TASKS = [*ADVISED, "nothere.csv", "folder.csv", "NoSuchTask", "", "STS12(xx)", "one.csv,one.csv"]
TEMPERATURES = ["0", "-1", "nan", "1e-40", "abc", "LogLength(1)", "PerLayer({9: .5})", "", "0.5,,1", "inf"]
OPTIONS = {
    "--layers": ["last:99", "foo"],
    "--data-dir": ["nowhere"],
    "--max-seq-length": ["0", "2", "99999"],
    "--remedies": ["pieces(3)", "pieces(5000)", "whiten(9999)", "project+centre", "heal", "pieces(", ""],
    "--device": ["cuda:77", "foo"],
    "--dtype": ["int8"],
    "--address": ["x"],
    "--temperatures": TEMPERATURES,
}
EVALUATE = ["evaluate", "minilm", "--out", "out", "--tasks"]
CASES = [
    *([*EVALUATE, task] for task in TASKS),
    *([*EVALUATE, "STS12", option, value] for option, values in OPTIONS.items() for value in values),
    ["evaluate", "nomodel", "--tasks", "STS12", "--out", "out"],
    ["evaluate", "damaged", "--tasks", "STS12", "--out", "out"],
    ["evaluate", "minilm", "--tasks", "STS12", "--out", "file"],
    ["evaluate", "minilm", "--tasks", "STS12", "--out", "results"],
    *(["compare", folder] for folder in ("nowhere", "file", "folder", "results")),
    ["compare", "folder", "--baseline", "0"],
    ["compare", "folder", "--items"],
    *(
        ["diagnose", "minilm", "--texts", name]
        for name in ("texts.txt", "one_line.txt", "nothere.txt", "folder", "x.doc", "bin.csv", "empty.csv")
    ),
    ["diagnose", "minilm", "--temperatures", "x"],
    ["diagnose", "minilm", "--texts", "texts.txt", "--column", "c"],
    ["diagnose", "nomodel", "--texts", "texts.txt"],
    ["fold", "minilm", "0", "out"],
    ["fold", "minilm", "abc", "out"],
    ["fold", "minilm", "0.9", "results"],
    *(["advise", "minilm", name] for name in ADVISED),
    ["advise"],
    ["advise", "minilm"],
    ["advise", "nomodel", "forty.csv"],
    ["advise", "minilm", "forty.csv", "--remedies", "heal"],
    ["advise", "minilm", "forty.csv", "--remedies", "none"],
    ["advise", "minilm", "forty.csv", "--remedies", "pieces(5000)"],
    ["advise", "minilm", "forty.csv", "--out", "file"],
    ["advise", "minilm", "forty.csv", "--save", "results"],
    ["advise", "minilm", "forty.csv", "--documents", "nothere.csv"],
    ["advise", "minilm", "forty.csv", "--query-column", "question"],
    ["advise", "minilm", "forty.csv", "--max-seq-length", "0"],
    ["advise", "minilm", "forty.csv", "--device", "foo"],
    ["advise", "minilm", "forty.csv", "--vectors", "x.npz"],
    *(["advise", "--vectors", name] for name in ("nothere.npz", "folder", "one.csv", "empty.csv", "x.npz", "few.npz")),
    ["fold", "nomodel", "0.9", "out"],
    ["spectrum", "minilm", "--texts", "nothere.txt"],
    ["spectrum"],
    ["samples", "file"],
    ["samples", "results"],
    ["nocommand"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("bad")
    for name, content in FILES.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return made


@pytest.mark.filterwarnings("ignore")  # as on the command line
@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_a_mistake_is_one_sentence(arguments, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    result = RUNNER.invoke(app, arguments)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    last = [line for line in result.stderr.splitlines() if line.strip()][-1]
    assert last.startswith(("tempscale: ", "╰"))  # or typer's own box
