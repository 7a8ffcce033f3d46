"""evaluate as processes: killed at any moment, two at once, and on the command line."""

import os
import re
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("mteb", reason="mteb is not installed: pip install 'tempscale[eval]'")

from support.evaluation import scores, write_data, write_model
from support.process import run_program, start_program

from tempscale import LogLength, PerLayer, RateMatched, evaluate
from tempscale.evaluation import run
from tempscale.evaluation.evaluate import EvaluationError
from tempscale.evaluation.store import UNIT, Measured, Store, Unit
from tempscale.patching.schedules import temperature_label

KILL = Path(__file__).parents[1] / "support" / "kill.py"
# The command line, which notes who runs what in a folder; nobody goes on before two processes have begun a unit.
NOTED = """
import os, sys, time
from tempscale.evaluation import run
notes, run_unit = sys.argv.pop(1), run.run_unit
def noted(session, job):
    open(os.path.join(notes, f"{job.unit.id} {os.getpid()}"), "w").close()
    while len({name.split()[1] for name in os.listdir(notes)}) < 2:
        time.sleep(0.01)
    return run_unit(session, job)
run.run_unit = noted
from tempscale.cli.app import app
app()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return write_model(folder / "model"), write_data(folder / "data")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.getbasetemp() / "datasets"))


def test_ended_at_any_moment_and_gone_on_with_gives_the_same_to_the_last_bit():
    """One process, and one of two: each by every signal."""
    result = run_program(KILL, "--kills=3", "--signals=KILL,INT,TERM", "--processes=1,2")
    assert result.returncode == 0, result.stderr[-2000:]
    for processes in (1, 2):
        assert re.search(rf"^3 ends of {processes}, \d evaluations: identical to the last bit$", result.stdout, re.M)


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_says_how_much_is_kept(files, signal_, tmp_path):
    """In the middle of the third unit: two are kept, nothing is claimed, and the files of mteb are whole."""
    model, data = files
    code = """
import os, signal, sys
from tempscale.evaluation import run
number, run_unit, begun = int(sys.argv.pop(1)), run.run_unit, []
def interrupted(session, job):
    begun.append(job)
    if len(begun) == 3:
        os.kill(os.getpid(), number)
    return run_unit(session, job)
run.run_unit = interrupted
from tempscale.cli.app import app
app()
"""
    arguments = ["--tasks", "STSBenchmark,SciFact", "--temperatures", "1.0,0.5", "--data-dir", data, "--device", "cpu"]
    found = run_program(code, int(signal_), "evaluate", model, *arguments, "--out", tmp_path / "out")
    assert found.returncode == 128 + signal_
    last = found.stderr.splitlines()[-1]
    assert last == (
        f"tempscale: interrupted; 2 of 4 units are kept in {tmp_path / 'out'}, run the same command to go on"
    )
    assert "Traceback" not in found.stderr
    assert found.stdout == ""
    with Store(tmp_path / "out") as store:
        assert len(store.units()) == 2
        assert store._database.execute("SELECT * FROM claim").fetchall() == []
    assert not list((tmp_path / "out").rglob(".tempscale-*"))


def test_two_processes_on_one_store_and_the_command_line(files, tmp_path):
    """They share the work: each unit is run once, and each process runs some."""
    model, data = files
    notes = tmp_path / "notes"
    notes.mkdir()
    arguments = ["--tasks", "STSBenchmark,SciFact", "--temperatures", "1.0,0.5", "--data-dir", data, "--device", "cpu"]
    with ExitStack() as stack:
        pair = [
            stack.enter_context(start_program(NOTED, notes, "evaluate", model, *arguments, "--out", tmp_path / "out"))
            # In different orders they do not wait for each other, either.
            for arguments in (arguments, [*arguments[:3], "0.5,1.0", *arguments[4:]])
        ]
        ended = [one.finish() for one in pair]
    assert [one.returncode for one in ended] == [0, 0], ended
    with Store(tmp_path / "out", create=False) as store:
        units, items = scores(store)
    assert len(units) == 4
    noted = [name.split() for name in os.listdir(notes)]
    assert sorted(unit for unit, _ in noted) == sorted(units.id)
    assert {int(pid) for _, pid in noted} == {one.pid for one in pair}
    assert len(items) == 2 * (40 + 30)
    for one in ended:
        for unit in units.itertuples():
            assert f"{unit.main_score:.4f}" in one.stdout
        assert "Traceback" not in one.stderr
        assert "Warning" not in one.stderr
        assert f"Wrote {tmp_path / 'out' / 'results.sqlite'}" in one.stderr
    assert "STSBenchmark test at 0.5: cosine_spearman" in ended[0].stderr + ended[1].stderr
    with Store(tmp_path / "out") as store:
        commands = store.units().command
    assert commands.str.endswith(f"--out {tmp_path / 'out'}").all()


@pytest.fixture
def ran(monkeypatch):
    """Return the list of the temperatures of the units that are run in this process."""
    found, run_unit = [], run.run_unit
    monkeypatch.setattr(
        run, "run_unit", lambda session, job: found.append(job.unit.temperature) or run_unit(session, job)
    )
    monkeypatch.setattr(run, "POLL", 0.01)
    return found


def test_what_others_run_is_waited_for_and_taken_over(files, tmp_path, ran, monkeypatch, capsys):
    model, data = files
    plan = {"model": model, "tasks": "STSBenchmark", "data_dir": data, "out": tmp_path / "out"}
    first = evaluate(**plan, temperatures=[1.0], progress=False)
    plain = Unit(**first[UNIT].to_dict("records")[0])
    half, other = replace(plain, temperature="0.5"), replace(plain, temperature="0.7")
    with Store(tmp_path / "out") as store:
        assert store.claim(half)
        assert store.claim(other)
        measured = Measured(0.125, "cosine_spearman", "none", "cpu", "{}", "", 1.0, 1, '{"main_score": 0.125}')
        events, wait = (
            [lambda: None, lambda: store.add(half, measured, []), lambda: store.release(other)],
            run.ResultSink.wait,
        )
        monkeypatch.setattr(run.ResultSink, "wait", lambda *given: (wait(*given), events.pop(0)()))
        found = evaluate(**plan, temperatures=[0.5, 1.0, 0.7, 0.8])
    assert ran == ["1.0", "0.8", "0.7"]
    assert found.temperature.tolist() == ["0.5", "1.0", "0.7", "0.8"]
    assert found.main_score[0] == 0.125
    assert events == []
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "waiting" in line]
    assert said.startswith(f"STSBenchmark test at 0.5 is run by process {os.getpid()} on ")
    assert said.endswith(
        "; waiting for it, or until its claim runs out, which is in 2 min unless that process renews it"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError, ValueError])
def test_an_error_ends_the_claim(files, tmp_path, error, monkeypatch):
    model, data = files

    def fail(session, job):
        with Store(tmp_path) as other:
            assert not other.claim(job.unit)
        raise error("of the unit")

    monkeypatch.setattr(run, "run_unit", fail)
    raised = error if error in (KeyboardInterrupt, MemoryError) else EvaluationError
    with pytest.raises(raised, match="0 of 2 units are kept in" if error is KeyboardInterrupt else "of the unit"):
        evaluate(model, "STSBenchmark", [1.0, 0.5], out=tmp_path, data_dir=data, progress=False)
    with Store(tmp_path) as store:
        assert store._database.execute("SELECT * FROM claim").fetchall() == []


def test_a_task_that_fails_is_given_up_at_once(files, tmp_path, monkeypatch):
    """And not only when all is done, which may be hours later."""
    model, data = files
    failed, run_unit = [], run.run_unit

    def fail(session, job):
        if job.part.name == "STSBenchmark":
            failed.append(job.unit)
            raise ValueError("of the unit")
        with Store(tmp_path) as other:
            assert other.claim(failed[0])
        return run_unit(session, job)

    monkeypatch.setattr(run, "run_unit", fail)
    with pytest.raises(EvaluationError, match=r"^STSBenchmark: of the unit$"):
        evaluate(model, ["STSBenchmark", "SciFact"], [1.0, 0.5], out=tmp_path, data_dir=data, progress=False)
    assert len(failed) == 1


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
        (
            ["--tasks", "STSBenchmark", "--remedies", "pieces(4)"],
            2,
            "--remedies: 'pieces(4)': pieces must have at least 8",
        ),
        (["--tasks", "STSBenchmark", "--remedies", "pieces(65)"], 1, "pieces(65) has more than the 64 tokens"),
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
