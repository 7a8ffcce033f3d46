"""What a temperature costs: patched against unpatched, and against a plain eager softmax(S / temperature).

    python tests/benchmarks/patch.py [--device cuda] [--dtype bfloat16] [--threads 1] [--repetitions 21]

Ratios of medians in one run; the calls that are compared alternate, so that a busy machine slows both. Each line is printed
when it is known. Models have the size of all-MiniLM-L6-v2 (6 layers, width 384) and random weights; a batch is two texts on
a CPU and 131 072 tokens on a GPU, where fewer would time the launching of kernels. The last lines time `patch` itself on the
size of BERT-base.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.architectures import architecture

from tempscale import LogLength, fold, patch

SIZE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
DECODER = {"num_key_value_heads": 12, "head_dim": 32}
T5 = {"d_model": 384, "d_kv": 32, "d_ff": 1536, "num_layers": 6, "num_heads": 12, **dict.fromkeys(SIZE)}
SIZES = {
    **dict.fromkeys(("BERT", "DistilBERT", "NomicBERT", "ModernBERT", "MPNet", "DeBERTa v2, v3"), SIZE),
    **{name: {**SIZE, **DECODER} for name in ("Qwen3", "Gemma 3", "Gemma 2")},
    "T5": T5,
}


def build(name, implementation, device, dtype, **options):
    sizes = {"initializer_range": 0.02, "max_position_embeddings": 600, **SIZES[name], **options}
    return architecture(name).build(implementation, dtype, **sizes).to(device)


def batch(n, device):
    """Return texts of n tokens."""
    texts = 2 if device == "cpu" else (1 << 17) // n
    ids = 5 + torch.arange(texts * n, device=device).reshape(texts, n) % 90
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def seconds(call, device):
    """Return the wall time of one call."""
    start = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def medians(calls, repetitions, device):
    """Return the median times of calls that take turns."""
    for call in calls:
        call()
    times = [[seconds(call, device) for call in calls] for _ in range(repetitions)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def cost(name, n, temperature, repetitions, device, dtype):
    """Return (sources, patched / unpatched) of a model in its fastest implementation."""
    fast = "eager" if name in ("MPNet", "DeBERTa v2, v3", "Gemma 2") else "sdpa"
    plain, patched = build(name, fast, device, dtype), build(name, fast, device, dtype)
    active = patch(patched, temperature)
    inputs = batch(n, device)
    with torch.inference_mode():
        before, after = medians([lambda: plain(**inputs), lambda: patched(**inputs)], repetitions, device)
    sources = " and ".join(source.attribute for source in active.sites[0].sources)
    return sources, after / before


def eager_cost(n, repetitions, device, dtype):
    """Return plain eager softmax(S / temperature) / patched SDPA, on BERT."""
    patched, eager = (build("BERT", implementation, device, dtype) for implementation in ("sdpa", "eager"))
    patch(patched, 0.8)
    softmax = torch.nn.functional.softmax
    inputs = batch(n, device)

    def divided():
        torch.nn.functional.softmax = lambda x, **kwargs: softmax(x / 0.8, **kwargs)
        try:
            eager(**inputs)
        finally:
            torch.nn.functional.softmax = softmax

    with torch.inference_mode():
        fast, slow = medians([lambda: patched(**inputs), divided], repetitions, device)
    return slow / fast


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=21)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    arguments = options.repetitions, options.device, getattr(torch, options.dtype)
    lengths = (32, 128, 512)
    print("patched / unpatched, medians of", *lengths, "tokens")
    for temperature in (0.8, LogLength(16)):
        for name in SIZES:
            label = name if temperature == 0.8 else f"{name}, by length"
            print(f"{label:28}", end="", flush=True)
            for n in lengths:
                sources, ratio = cost(name, n, temperature, *arguments)
                print(f"{ratio:8.2f}", end="", flush=True)
            print(f"  divided: {sources}", flush=True)
    print(f"{'eager BERT / patched':28}", end="")
    for n in lengths:
        print(f"{eager_cost(n, *arguments):8.2f}", end="", flush=True)
    print()

    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072}
    base = build("BERT", "sdpa", *arguments[1:], **sizes)
    active = patch(base, 0.9)
    calls = {
        "patch, all layers": lambda: patch(base, 0.9).remove(),
        "patch, last 3 layers": lambda: patch(base, 0.9, layers=slice(-3, None)).remove(),
        "patch, by length": lambda: patch(base, LogLength(128)).remove(),
    }
    setting = statistics.median(seconds(lambda: setattr(active, "temperature", 0.8), "cpu") for _ in range(99))
    active.remove()
    for name, call in calls.items():
        print(f"{name} (BERT-base size): {medians([call], 5, options.device)[0]:.2f} s")
    print(f"fold (BERT-base size): {seconds(lambda: fold(base, 0.9), options.device):.2f} s")
    print(f"setting a temperature (BERT-base size): {1e6 * setting:.0f} microseconds")


if __name__ == "__main__":
    main()
