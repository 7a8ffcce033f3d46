"""What evaluate costs, in three tables.

    python tests/benchmarks/evaluate.py --data-dir DIR [--overhead Banking77Classification,SciFact]
        [--tasks STSBenchmark,LEMBQMSumRetrieval] [--device cuda] [--temperatures 1.0,0.9,0.8,0.7] [--dtype bfloat16]
        [--threads 1] [--texts 400] [--repetitions 5] [--model minilm]

Overhead: units whose forward pass is replaced by random vectors, on a CPU, with what scikit-learn's fits and the tokenizer
take of it. Throughput: all that the encoder does for long texts, against the model's forward pass alone on the same batches,
tokenised before. Sweep: several temperatures at once, against mteb with sentence-transformers' defaults, once for each.

Ratios within one run; sides that are compared take turns. Seconds are those of the process (CPU time of all its threads), so
that a busy machine does not change them; with --device other than cpu they are wall time.
"""

import argparse
import collections
import contextlib
import functools
import os
import statistics
import tempfile
import time
import warnings
from types import SimpleNamespace

import mteb
import torch
from datasets import Dataset
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

import tempscale
from tempscale.encoding import encoder as encoder_module
from tempscale.encoding.batching import token_batches
from tempscale.encoding.encoder import Encoder
from tempscale.encoding.features import count_tokens, features_of, on_device
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


def compare_sweeps(options, console):
    table = Table("task", "texts' tokens", "defaults, s", "sweep, s", "defaults / sweep", title="Four temperatures")
    for name in options.tasks.split(","):
        before, defaults = 0.0, {}
        for temperature in options.temperatures[:2]:
            took, defaults[temperature] = seconds(
                functools.partial(by_default, options, name, temperature), options.device
            )
            before += took
        after, found = seconds(functools.partial(sweep, options, name, options.temperatures), options.device)
        for temperature in options.temperatures[2:]:
            took, defaults[temperature] = seconds(
                functools.partial(by_default, options, name, temperature), options.device
            )
            before += took
        for temperature, scores in defaults.items():
            same = found[found.temperature == repr(temperature)].main_score
            difference = max(abs(one - other) for one, other in zip(same, scores, strict=True))
            print(f"{name} at {temperature}: scores differ by {difference:.1e} at most", flush=True)
        tokens = found.tokens.sum() // len(options.temperatures)
        table.add_row(name, f"{tokens}", f"{before:.0f}", f"{after:.0f}", f"{before / after:.2f}")
    console.print(table)


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


def stub(self, features, texts, options):
    """Return random vectors in place of a forward pass, the same for the same batch."""
    seed = int(features["input_ids"].sum())
    return torch.randn(
        texts, self.model.get_sentence_embedding_dimension(), generator=torch.Generator().manual_seed(seed)
    )


def overhead(options, console):
    headings = ("task", "at", "unit, s", "of it fits, s", "of it tokenizer, s")
    table = Table(*headings, title="Units without a forward pass (CPU time; fits and tokenizer: of their threads)")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # so that its time is that of the thread which calls it
    with contextlib.ExitStack() as stack:
        spent = collections.Counter()
        for owner, name in (
            (LogisticRegression, "fit"),
            (encoder_module, "count_tokens"),
            (encoder_module, "features_of"),
        ):
            stack.enter_context(timed(owner, name, spent))
        forward = Encoder._forward
        stack.callback(setattr, Encoder, "_forward", forward)
        Encoder._forward = stub
        model = tempscale.load_model(options.model, device="cpu")
        for name in options.overhead.split(","):
            plan = Plan(model, [name], options.temperatures[:2], data_dir=options.data_dir)
            with Session(plan, find_parts([name], options.data_dir)) as session:
                for job in session.jobs:
                    spent.clear()
                    took, _ = seconds(functools.partial(run_unit, session, job), "cpu")
                    tokenizer = spent["count_tokens"] + spent["features_of"]
                    label = f"{name} {job.unit.subset}".removesuffix(" default")
                    table.add_row(label, job.unit.temperature, f"{took:.2f}", f"{spent['fit']:.2f}", f"{tokenizer:.2f}")
                    print(f"{label} at {job.unit.temperature}: {took:.2f} s", flush=True)
    console.print(table)


def long_texts(options):
    (part, *_) = find_parts([options.long], options.data_dir)
    part.load()
    data = part.task.dataset
    if part.has_sides:
        return data[part.subset][part.split]["corpus"]["text"][: options.texts]
    return [text for text in data[part.split]["text"] if len(text) > 500][: options.texts]


def throughput(options):
    model = tempscale.load_model(options.model, device=options.device, dtype=options.dtype)
    texts = long_texts(options)
    inputs = SimpleNamespace(dataset=Dataset.from_dict({"text": list(texts)}))
    task = SimpleNamespace(name="", type="")
    encoder = Encoder(model)
    lengths = [min(count, model.max_seq_length) for count in count_tokens(model, texts)]
    batches = token_batches(lengths, encoder.batch_tokens)
    ready = [features_of(model, [texts[index] for index in batch]) for batch in batches]

    def forward():
        with torch.inference_mode():
            for features in ready:
                model(on_device(features, model.device))

    def encode(encoder, temperature):
        encoder.begin(temperature)
        encoder.encode(inputs, task_metadata=task, hf_split="", hf_subset="")

    forward()
    times = {"forward": [], "first temperature": [], "next temperature": []}
    for _ in range(options.repetitions):
        fresh = Encoder(model)
        times["first temperature"].append(seconds(functools.partial(encode, fresh, 1.0), options.device)[0])
        fresh.begin(0.9)
        fresh._set(0.9)
        times["forward"].append(seconds(forward, options.device)[0])
        times["next temperature"].append(seconds(functools.partial(encode, fresh, 0.9), options.device)[0])
        fresh.close()
    median = {name: statistics.median(values) for name, values in times.items()}
    padding = sum(len(batch) * lengths[batch[0]] for batch in batches) / sum(lengths) - 1
    print(f"{options.long}: {len(texts)} texts, {sum(lengths)} tokens, {padding:.1%} padding")
    print(f"forward alone: {sum(lengths) / median['forward']:.0f} tokens/s on {model.device}, {model.dtype}")
    for name in ("first temperature", "next temperature"):
        print(f"{name}: throughput {median['forward'] / median[name]:.2f} of the forward pass alone")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--overhead", default="Banking77Classification,STSBenchmark")
    parser.add_argument("--tasks", default="STSBenchmark,LEMBQMSumRetrieval")
    parser.add_argument("--long", default="ImdbClassification")
    parser.add_argument(
        "--temperatures", type=lambda text: [float(t) for t in text.split(",")], default="1.0,0.9,0.8,0.7"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    console = Console(width=120)
    if options.overhead:
        overhead(options, console)
    throughput(options)
    if options.tasks:
        compare_sweeps(options, console)


if __name__ == "__main__":
    main()
