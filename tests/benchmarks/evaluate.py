"""What evaluate costs, in three parts; each line is printed when it is known.

    python tests/benchmarks/evaluate.py --data-dir DIR [--overhead Banking77Classification,SciFact]
        [--units ImdbClassification] [--texts 400] [--sweeps STSBenchmark,LEMBQMSumRetrieval]
        [--temperatures 1.0,0.9,0.8,0.7] [--device cuda] [--dtype float16] [--batch-tokens 131072] [--threads 1]
        [--model minilm]

Overhead: units whose forward pass is replaced by random vectors, on a CPU, with what scikit-learn's fits and the tokenizer
take of it. Units: what a unit takes, at the first temperature and at the next ones, against the model's forward pass alone
on the same batches, which are on the device already; --texts limits the test set. Sweeps: several temperatures at once,
against mteb with sentence-transformers' defaults, once for each. An empty list of tasks skips a part.

Ratios within one run; sides that are compared take turns. Seconds are those of the process (CPU time of all its threads),
so that a busy machine does not change them; with --device other than cpu they are wall time.
"""

import argparse
import collections
import contextlib
import functools
import os
import statistics
import tempfile
import time
import unittest.mock
import warnings

import mteb
import torch
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from sklearn.linear_model import LogisticRegression

import tempscale
from tempscale.encoding.batching import on_device
from tempscale.encoding.encoder import Encoder
from tempscale.encoding.tokens import Tokens
from tempscale.evaluation.columns import read_once
from tempscale.evaluation.plan import Plan, Session
from tempscale.evaluation.run import run_unit
from tempscale.evaluation.tasks import find_parts


def clock(device):
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds(call, device):
    start = clock(device)
    result = call()
    return clock(device) - start, result


def by_default(options, name, temperature):
    """Load and run as a user of mteb would: one temperature, batches of 32."""
    model = tempscale.load_model(options.model, device=options.device, dtype=options.dtype)
    tempscale.patch(model, temperature)
    scores = []
    for part in find_parts([name], options.data_dir):
        part.load()
        result = mteb.evaluate(
            SentenceTransformerEncoderWrapper(model),
            part.fresh(),
            cache=None,
            co2_tracker=False,
            show_progress_bar=False,
        )
        scores.append(result.task_results[0].main_score)
    return scores


def sweep(options, name, temperatures):
    with tempfile.TemporaryDirectory() as out:
        arguments = {"data_dir": options.data_dir, "device": options.device, "dtype": options.dtype, "progress": False}
        return tempscale.evaluate(options.model, name, temperatures, out=out, **arguments)


def compare_sweeps(options):
    row("sweep of", "tokens", "defaults, s", "sweep, s", "defaults / sweep")
    for name in filter(None, options.sweeps.split(",")):
        before, defaults = 0.0, {}
        middle = len(options.temperatures) // 2
        for place, temperature in enumerate(options.temperatures):
            if place == middle:
                after, found = seconds(functools.partial(sweep, options, name, options.temperatures), options.device)
            took, defaults[temperature] = seconds(
                functools.partial(by_default, options, name, temperature), options.device
            )
            before += took
        tokens = found.tokens.sum() // len(options.temperatures)
        row(name, f"{tokens}", f"{before:.1f}", f"{after:.1f}", f"{before / after:.2f}")
        for temperature, scores in defaults.items():
            same = found[found.temperature == repr(temperature)].main_score
            difference = max(abs(one - other) for one, other in zip(same, scores, strict=True))
            print(f"    at {temperature} scores differ by {difference:.1e} at most", flush=True)


def row(*cells):
    print(f"{cells[0]:40}", *(f"{cell:>18}" for cell in cells[1:]), flush=True)


@contextlib.contextmanager
def timed(owner, name, spent):
    """Add up the CPU time of a function, of the thread that calls it."""
    function = getattr(owner, name)

    def call(*arguments, **options):
        start = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] += time.thread_time() - start

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, function)


def stub(self, features, options):
    """Return random vectors in place of a forward pass, the same for the same batch."""
    generator = torch.Generator().manual_seed(int(features["input_ids"].sum()))
    return torch.randn(len(features["input_ids"]), self.model.get_sentence_embedding_dimension(), generator=generator)


def overhead(options):
    row("without a forward pass", "at", "unit, s", "of it fits, s", "of it tokenizer, s")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # so that its time is that of the thread which calls it
    with contextlib.ExitStack() as stack:
        spent = collections.Counter()
        for owner, name in ((LogisticRegression, "fit"), (Tokens, "__init__")):
            stack.enter_context(timed(owner, name, spent))
        stack.enter_context(unittest.mock.patch.object(Encoder, "_forward", stub))
        model = tempscale.load_model(options.model, device="cpu")
        for name in options.overhead.split(","):
            with session(options, model, name) as running:
                for job in running.jobs[:2]:
                    spent.clear()
                    took, _ = seconds(functools.partial(run_unit, running, job), "cpu")
                    row(name, job.unit.temperature, *(f"{s:.2f}" for s in (took, spent["fit"], spent["__init__"])))


def session(options, model, name):
    plan = Plan(model, [name], options.temperatures, data_dir=options.data_dir, batch_tokens=options.batch_tokens)
    return Session(plan, find_parts([name], options.data_dir)[:1])


def units(options):
    row("unit of", "at", "tokens", "unit, s", "forward, s", "unit / forward", "tokens/s", "padding")
    model = tempscale.load_model(options.model, device=options.device, dtype=options.dtype)
    for name in options.units.split(","):
        with session(options, model, name) as running:
            running.load(running.jobs[0].part)
            data = running.jobs[0].part.task.dataset
            if options.texts and not running.jobs[0].part.has_sides:
                data["test"] = read_once(data["test"].shuffle(seed=0).select(range(options.texts)))
            for job in running.jobs:
                batches, forward = [], Encoder._forward

                def recorded(self, features, given, batches=batches, forward=forward):
                    batches.append((features, given))
                    return forward(self, features, given)

                with unittest.mock.patch.object(Encoder, "_forward", recorded):
                    took, _ = seconds(functools.partial(run_unit, running, job), options.device)
                ready = [(on_device(features, model.device), given) for features, given in batches]

                def alone(ready=ready):
                    with torch.inference_mode():
                        for features, given in ready:
                            model(dict(features), **given)

                pure = statistics.median(seconds(alone, options.device)[0] for _ in range(options.repetitions))
                work = running.encoder.work
                row(
                    *(name, job.unit.temperature, f"{work.tokens_read}", f"{took:.2f}", f"{pure:.2f}"),
                    *(f"{took / pure:.2f}", f"{work.tokens_read / pure:.0f}"),
                    f"{work.tokens_padded / work.tokens_read - 1:.1%}",
                )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--overhead", default="Banking77Classification,STSBenchmark")
    parser.add_argument("--units", default="ImdbClassification")
    parser.add_argument("--sweeps", default="STSBenchmark,LEMBQMSumRetrieval")
    parser.add_argument(
        "--temperatures", type=lambda text: [float(t) for t in text.split(",")], default="1.0,0.9,0.8,0.7"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype")
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--texts", type=int, default=400, help="of the test set of a unit; 0 for all")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    for part, tasks in ((overhead, options.overhead), (units, options.units), (compare_sweeps, options.sweeps)):
        if tasks:
            part(options)


if __name__ == "__main__":
    main()
