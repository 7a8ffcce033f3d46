"""filter_rate_qk against the dense SVD, and against forward passes of attention, in time and in memory.

    python tests/benchmarks/spectrum.py [--device cuda] [--threads 2] [--repetitions 3] [--long 32768] [--longest 131072]

Ratios of medians in one run; the calls that are compared alternate, so that a busy machine slows both. Queries and keys are
Gaussian with d = 64, logits of standard deviation `strength`. Extra memory is the growth of the peak over what was in use
before the call, of a process of its own (Linux) or of the GPU's allocator.

The first table is why short texts are not iterated: milliseconds for all 72 heads of MiniLM on a real text, by a dense SVD,
by the whole of BᵀB (what filter_rate_qk does up to 256 tokens), and by block Lanczos.

Why no factor of 100 at 4096 tokens: on one core of a Xeon (AVX-512) the dense SVD takes 3.4 s, and to make the matrix once
36 ms (q kᵀ 13, exp and normalising 13, fresh memory 10), more than a hundredth; 5 to 7 passes with 16 vectors, 13 ms each,
and the small problems make it 140 to 170 ms. On two cores 2.0 s, 21 ms and 8 ms a pass. A pass with one vector is 6 ms, but
three times as many are needed, and values that are close together are not told apart.
"""

import argparse
import multiprocessing
import statistics
import time
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import scaled_dot_product_attention

from tempscale import docstrings, filter_rate_qk, load_model
from tempscale.spectrum import lanczos
from tempscale.spectrum.from_queries_keys import CentredAttention


def draw(n, strength, device):
    generator = torch.Generator().manual_seed(n)
    q, k, v = torch.randn(3, 1, 1, n, 64, generator=generator).to(device)
    return strength * q, k, v


def dense(q, k):
    attn = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    return torch.linalg.svdvals(attn - attn.mean(-2, keepdim=True))[..., 0]


def seconds(call, device):
    """Return the wall time of one call and its result."""
    start = time.perf_counter()
    result = call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def medians(calls, repetitions, device):
    """Return the median times of calls that take turns, and their last results."""
    rounds = [[seconds(call, device) for call in calls] for _ in range(repetitions)]
    columns = list(zip(*rounds, strict=True))
    return [statistics.median(t for t, _ in column) for column in columns], [column[-1][1] for column in columns]


def passes(q, k):
    """Return how often filter_rate_qk multiplies by the matrix, and how often it makes it."""
    used, made, gram = [0], [0], CentredAttention.gram

    def counted(self, v):
        used[0] += 1
        made[0] += not (self._keeps and self._normalised)
        return gram(self, v)

    CentredAttention.gram = counted
    try:
        filter_rate_qk(q, k)
    finally:
        CentredAttention.gram = gram
    return f"{used[0]} ({made[0]})"


def real_heads(n, device):
    """Return queries and keys (72, n, 32) of all layers of MiniLM, on one text of n tokens."""
    model = load_model("minilm", device=device)
    text = docstrings(["numpy"], min_tokens=500).text[0]
    tokens = model.tokenizer(text, max_length=n, truncation=True, return_tensors="pt").to(device)
    transformer = model[0].auto_model
    with torch.inference_mode():
        states = torch.cat(transformer(**tokens, output_hidden_states=True).hidden_states[:-1])
        modules = [layer.attention.self for layer in transformer.encoder.layer]
        both = [
            torch.stack([getattr(m, name)(x) for m, x in zip(modules, states, strict=True)])
            for name in ("query", "key")
        ]
        return [x.unflatten(-1, (12, 32)).transpose(1, 2).flatten(0, 1) for x in both]


def short_texts(device, repetitions):
    table = Table("n", "dense SVD", "whole", "Lanczos")
    for n in (64, 128, 256, 512):
        q, k = real_heads(n, device)

        def rates(small, q=q, k=k):
            lanczos._SMALL = small
            return filter_rate_qk(q, k, tol=1e-5)

        times, _ = medians([partial(dense, q, k), partial(rates, n), partial(rates, 0)], repetitions, device)
        table.add_row(str(n), *(f"{1000 * t:.0f} ms" for t in times))
    lanczos._SMALL = 256
    return table


def resident(key):
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(key)).split()[1]) * 1024


def extra_memory(function, n, strength, device, threads):
    """Return the bytes that a call needs beyond its inputs; on the CPU, of this process, which must be fresh."""
    torch.set_num_threads(threads)
    function(*draw(64, strength, device)[:2])  # libraries load here
    q, k, _ = draw(n, strength, device)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function(q, k)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = resident("VmRSS")
    function(q, k)
    return resident("VmHWM") - before


def fresh(*arguments):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(extra_memory, arguments)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 2048, 4096])
    parser.add_argument("--long", type=int, default=32768, help="against forward passes alone; 0 to skip")
    parser.add_argument("--longest", type=int, default=0, help="once, with its time alone, for instance 131072")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, repetitions = options.device, options.repetitions
    console = Console(width=120)

    def memory(function, n, strength):
        return f"{fresh(function, n, strength, device, options.threads) / 1e6:.0f} MB"

    console.print(short_texts(device, 3 * repetitions))
    table = Table(
        "n", "strength", "rate", "rel. error", "dense / ours", "ours / SDPA", "passes (made)", "memory", "dense memory"
    )
    for n in options.sizes:
        for strength in (1.0, 3.0):
            q, k, v = draw(n, strength, device)
            # one dense SVD takes long enough
            (slow,), (exact,) = medians([partial(dense, q, k)], 1, device)
            calls = [partial(filter_rate_qk, q, k), partial(scaled_dot_product_attention, q, k, v)]
            (fast, forward), (rate, _) = medians(calls, repetitions, device)
            table.add_row(
                *(str(n), f"{strength:g}", f"{rate.item():.4f}", f"{abs(rate / exact - 1).item():.1e}"),
                *(f"{slow / fast:.0f}", f"{fast / forward:.1f}", passes(q, k)),
                *(memory(filter_rate_qk, n, strength), memory(dense, n, strength)),
            )
            console.print(f"n = {n}, strength {strength:g}: {fast:.3f} s, dense {slow:.2f} s, SDPA {forward:.4f} s")
    for n in filter(None, (options.long, options.longest)):
        for strength in (1.0, 3.0) if n == options.long else (1.0,):
            q, k, v = draw(n, strength, device)
            calls = [partial(filter_rate_qk, q, k), partial(scaled_dot_product_attention, q, k, v)]
            (fast, forward), (rate, _) = medians(calls, repetitions if n == options.long else 1, device)
            made = passes(q, k) if n == options.long else ""
            used = memory(filter_rate_qk, n, strength) if n == options.long else ""
            table.add_row(
                str(n), f"{strength:g}", f"{rate.item():.4f}", "", "", f"{fast / forward:.1f}", made, used, ""
            )
            console.print(f"n = {n}, strength {strength:g}: {fast:.1f} s, SDPA {forward:.2f} s")
    console.print(table)


if __name__ == "__main__":
    main()
