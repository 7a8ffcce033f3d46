"""evaluate as processes: killed at any moment, two at once, and on the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mteb", reason="mteb is not installed: pip install 'tempscale[eval]'")

from support.evaluation import scores, write_data, write_model

from tempscale import LogLength, PerLayer, RateMatched
from tempscale.evaluation.store import Store
from tempscale.patching.schedules import temperature_label

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-c", "from tempscale.cli.app import app; app()", "evaluate"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return write_model(folder / "model"), write_data(folder / "data")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.getbasetemp() / "datasets"))


def test_killed_and_gone_on_with_gives_the_same_to_the_last_bit():
    result = subprocess.run(
        [sys.executable, HERE.parent / "support" / "kill.py", "--kills", "4"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "identical to the last bit" in result.stdout


def test_two_processes_on_one_store_and_the_command_line(files, tmp_path):
    model, data = files
    arguments = ["--tasks", "STSBenchmark,SciFact", "--temperatures", "1.0,0.5", "--data-dir", data, "--device", "cpu"]
    pair = [
        subprocess.Popen([*COMMAND, model, *arguments, "--out", tmp_path / "out"], stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    with Store(tmp_path / "out", create=False) as store:
        units, items = scores(store)
    assert len(units) == 4
    assert len(items) == 2 * (40 + 30)
    for stdout, stderr in outputs:
        for unit in units.itertuples():
            assert f"{unit.main_score:.4f}" in stdout
        assert "Traceback" not in stderr
        assert "Warning" not in stderr
        assert f"Wrote {tmp_path / 'out' / 'results.sqlite'}" in stderr
    assert "STSBenchmark test at 0.5: cosine_spearman" in outputs[0][1] + outputs[1][1]
    with Store(tmp_path / "out") as store:
        commands = store.units().command
    assert commands.str.endswith(f"--out {tmp_path / 'out'}").all()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--tasks", "STS-12"], 2, "no task or benchmark 'STS-12' in mteb: did you mean STS12"),
        (
            ["--tasks", "STSBenchmark", "--temperatures", "1.0,cold"],
            2,
            "--temperatures '1.0,cold': 'cold' is no temperature",
        ),
        (["--tasks", "STSBenchmark", "--temperatures", "none.json"], 2, "cannot read none.json: no such file"),
        (
            ["--tasks", "STSBenchmark", "--temperatures", "PerLayer({3: 0.5})"],
            1,
            "PerLayer names layer 3, but the model",
        ),
        (["--tasks", "STSBenchmark", "--address", "ray://x"], 2, "--address 'ray://x' is for --engine ray"),
        (["--tasks", "STSBenchmark", "--max-seq-length", "4096"], 1, "max_seq_length 4096 is not possible"),
        (["--tasks", "STSBenchmark", "--chunk-tokens", "4"], 2, "chunk_tokens must be at least 8, not 4"),
        (["--tasks", "STSBenchmark", "--chunk-tokens", "65"], 1, "chunk_tokens 65 is more than the 64 tokens"),
        (["--tasks", "STS17"], 1, "cannot load the data of STS17 from the hub"),
    ],
)
def test_messages_of_the_command_line(files, arguments, status, message, tmp_path):
    from typer.testing import CliRunner

    from tempscale.cli.app import app

    model, data = files
    result = CliRunner().invoke(
        app, ["evaluate", model, "--data-dir", data, "--out", str(tmp_path / "out"), *arguments]
    )
    assert result.exit_code == status, result.output
    assert message in result.stderr
    assert result.stdout == ""


def test_schedules_on_the_command_line(files, tmp_path):
    from typer.testing import CliRunner

    from tempscale.cli.app import app

    model, data = files
    schedules = [RateMatched(8, [16], [[0.5], [1.0], [0.7]]), RateMatched(8, [16], [[0.5], [1.0], [0.8]])]
    for number, schedule in enumerate(schedules):
        schedule.save(tmp_path / f"{number}.json")
    written = f"{tmp_path / '0.json'},RateMatched({tmp_path / '1.json'})"
    arguments = ["--tasks", "STSBenchmark", "--temperatures", f"1.0,LogLength(8),PerLayer({{-1: 0.5, 0: 2}}),{written}"]
    for _ in range(2):
        out = str(tmp_path / "out")
        result = CliRunner().invoke(app, ["evaluate", model, *arguments, "--data-dir", data, "--out", out])
        assert result.exit_code == 0, result.output
    with Store(tmp_path / "out", create=False) as store:
        units = store.units()
        items = {tuple(store.items(unit).score) for unit in units.id}
    labels = ["1.0", *map(temperature_label, [LogLength(8), PerLayer({-1: 0.5, 0: 2}), *schedules])]
    assert sorted(units.temperature) == sorted(labels), "each once, the two files apart"
    assert len(items) == 5
