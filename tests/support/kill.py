"""Kill evaluations at random moments, go on, and compare with one that was left alone.

    python tests/support/kill.py [--kills 20] [--seed 0]

Every evaluation is a process of its own, forked from one that has loaded the libraries, and killed with SIGKILL at a
random moment of what an undisturbed one takes. Prints a line for each kill; exits with 1 if any number differs.
"""

import argparse
import os
import random
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
from tempscale import LogLength, evaluate
from tempscale.evaluation.store import Store

TEMPERATURES = [1.0, 0.5, LogLength(8)]


def start(model, data, out):
    """Fork an evaluation."""
    pid = os.fork()
    if pid == 0:
        try:
            evaluate(model, TASKS, TEMPERATURES, out=out, data_dir=data, apply_to="both", progress=False)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - a forked process must not go on as its parent
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    return pid


def finish(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"exit status {status}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        model, data = write_model(f"{folder}/model"), write_data(f"{folder}/data")
        begun = time.monotonic()
        finish(start(model, data, f"{folder}/whole"))
        whole = time.monotonic() - begun
        with Store(f"{folder}/whole") as store:
            expected = scores(store)
        killed, number = 0, 0
        while killed < options.kills:
            number += 1
            out = f"{folder}/out{number}"
            while True:
                begun = time.monotonic()
                pid = start(model, data, out)
                moment = rng.uniform(0, whole)
                ended = 0
                while not ended and time.monotonic() - begun < moment:
                    time.sleep(0.005)
                    ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    assert status == 0
                    whole = time.monotonic() - begun
                else:
                    os.kill(pid, signal.SIGKILL)
                    ended, status = os.waitpid(pid, 0)
                interrupted = os.WIFSIGNALED(status)
                killed += interrupted
                with Store(out) as store:
                    finished = len(store.units())
                print(f"kill {killed}: {finished} of {len(expected[0])} units finished", flush=True)
                if not interrupted or killed >= options.kills:
                    break
            finish(start(model, data, out))
            with Store(out) as store:
                for found, wanted in zip(scores(store), expected, strict=True):
                    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    print(f"{killed} kills, {number} evaluations: identical to the last bit")


if __name__ == "__main__":
    main()
