"""End evaluations at random moments, go on, and compare with one that was left alone.

    python tests/support/kill.py [--kills 20] [--seed 0] [--signals KILL,INT,TERM] [--processes 1,2]

Every evaluation is the command line in a process of its own, forked from one that has loaded the libraries. With several
processes they share a folder, and one of them is ended while the others go on. Each number of processes has so many ends,
by the signals in turn. Prints a line for each end; exits with 1 if any number differs, or if something was left behind or
unsaid by a process that could still tidy up.
"""

import argparse
import itertools
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import datasets
import pandas as pd
import torch

from support.evaluation import TASKS, scores, write_data, write_model
from tempscale.cli.app import app
from tempscale.evaluation.store import Store

TEMPERATURES = "1.0,0.5,LogLength(8)"
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 143}
# Before the folder is opened nobody knows how much there is.
KEPT = r"(\d+ of 9 units are|what was finished before is) kept in \S+, run the same command to go on"
SAID = rf"tempscale: interrupted(; {KEPT})?$"


def start(model, data, out, said):
    """Fork an evaluation that writes what it says into a file."""
    options = {"tasks": ",".join(TASKS), "temperatures": TEMPERATURES, "data-dir": data, "device": "cpu", "out": out}
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with open(said, "w") as file:
                os.dup2(file.fileno(), 2)
                os.dup2(file.fileno(), 1)
            app(["evaluate", model, *(part for name, value in options.items() for part in (f"--{name}", value))])
        except SystemExit as end:
            status = end.code or 0
        finally:
            os._exit(status)
    return pid


def finish(pid, said):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"exit status {status}: {Path(said).read_text()}"


def end(running, moment, number):
    """Send a signal to one of several processes after a time, if it still runs; return its status, or None."""
    pid, said = next(iter(running.items()))
    time.sleep(moment)
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, number)
        _, status = os.waitpid(pid, 0)
    del running[pid]
    status = os.waitstatus_to_exitcode(status)
    if status == 0:
        return None
    text = Path(said).read_text()
    # Before the command begins, and when it is over, a signal does what it does to any process.
    assert status in (STATUS[number], -number), f"exit status {status} after {number!r}: {text}"
    if status > 0:
        assert "Traceback" not in text, text
        assert re.search(SAID, " ".join(text.split())), text
    return status


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", default="KILL")
    parser.add_argument("--processes", default="1")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    signals = itertools.cycle(signal.Signals[f"SIG{name}"] for name in options.signals.split(","))
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        model, data = write_model(f"{folder}/model"), write_data(f"{folder}/data")
        begun = time.monotonic()
        finish(start(model, data, f"{folder}/whole", f"{folder}/said"), f"{folder}/said")
        whole = time.monotonic() - begun
        with Store(f"{folder}/whole") as store:
            expected = scores(store)
        for processes in map(int, options.processes.split(",")):
            said = [f"{folder}/said{number}" for number in range(processes)]
            killed, number = 0, 0
            while killed < options.kills:
                number += 1
                out, interrupted, tidy = f"{folder}/out{processes}.{number}", True, True
                while interrupted and killed < options.kills:
                    running = {start(model, data, out, one): one for one in said}
                    sent = next(signals)
                    interrupted = end(running, rng.uniform(0.05, whole), sent) is not None
                    killed += interrupted
                    tidy = tidy and (not interrupted or sent != signal.SIGKILL)
                    for pid, one in running.items():
                        finish(pid, one)
                    with Store(out) as store:
                        finished = len(store.units())
                        if tidy:
                            assert store._database.execute("SELECT * FROM claim").fetchall() == []
                            assert not list(Path(out).rglob(".tempscale-*"))
                    print(f"end {killed}, by {sent.name}: {finished} of {len(expected[0])} units finished", flush=True)
                finish(start(model, data, out, said[0]), said[0])
                with Store(out) as store:
                    for found, wanted in zip(scores(store), expected, strict=True):
                        pd.testing.assert_frame_equal(found, wanted, check_exact=True)
            print(f"{killed} ends of {processes}, {number} evaluations: identical to the last bit")


if __name__ == "__main__":
    main()
