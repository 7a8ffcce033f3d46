"""How often `paired` finds what is not there, and how often its intervals hold: `python coverage.py OUT`, a few minutes.

Each repetition draws new items and compares two settings with a baseline: one that changes nothing on average, and one with
a small effect that is known from the model. OUT is a table with a row for each kind of data, its number of items and
setting: the share of repetitions with a p-value of at most 0.05 (false_positives, where there is no effect), the share of
95 % intervals that hold the true difference (coverage), and the number of repetitions. A share of 0.05 over 600 has a
standard error of 0.009.

The kinds "..., as independent" and "..., sets held fixed" leave out what makes items dependent, or the training sets.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from tempscale.files import write_table
from tempscale.statistics.paired import paired

REPETITIONS, RESAMPLES = 600, 1000
SETTINGS = ("no effect", "small effect")

Floats = npt.NDArray[np.floating]
Generator = np.random.Generator


class Draw(NamedTuple):
    """Scores of items: (n,) of the baseline, (2, n) of the settings, (2,) true differences, and arguments of `paired`."""

    baseline: Floats
    scores: Floats
    truth: Floats
    arguments: dict[str, Any]


# nDCG@10 with one relevant document: not found, or found on rank 10 to 1.
GRADES = np.array([0, *(1 / np.log2(1 + np.arange(10, 0, -1)))])
SHARES = np.array([0.35, *[0.02] * 5, 0.03, 0.04, 0.06, 0.12, 0.3])


def ndcg(rng: Generator, n: int, *, changed: float = 0.3, gain: float = 0.02) -> Draw:
    """Scores of queries of which some are ranked anew; with the effect, some others of those a rank better."""
    ranks = rng.choice(len(GRADES), p=SHARES, size=(3, n))
    ranks[1:] = np.where(rng.random((2, n)) < changed, ranks[1:], ranks[0])
    ranks[2] = np.minimum(ranks[2] + (rng.random(n) < gain), len(GRADES) - 1)
    before, *after = GRADES[ranks]
    return Draw(before, np.array(after), np.array([0, gain * (SHARES[:-1] * np.diff(GRADES)).sum()]), {})


def clustered(rng: Generator, n: int) -> Draw:
    """Scores of queries to 197 documents: a setting moves a document, and with it all its queries."""
    clusters = np.concatenate([np.arange(197), rng.integers(197, size=n - 197)])
    change = 0.1 * rng.normal(size=(2, 197))[:, clusters] + 0.2 * rng.normal(size=(2, n))
    truth = np.array([0, 0.01])
    return Draw(np.zeros(n), change + truth[:, None], truth, {"clusters": clusters})


def accuracy(rng: Generator, n: int, *, sets: int, spread: float) -> Draw:
    """Shares of right answers over training sets; `spread` is how differently a set suits the settings."""
    margin = np.array([0.5, 0.5, 0.52])[:, None] + 0.2 * rng.normal(size=sets) + spread * rng.normal(size=(3, sets))
    item = rng.normal(size=n) + 0.4 * rng.normal(size=(3, n))
    right = margin[:, :, None] + item[:, None] + 0.5 * rng.normal(size=(3, sets, n)) > 0
    before, *after = right.mean(axis=1)
    of_sets = right.mean(axis=2)
    noise = 1 + 0.4**2 + 0.5**2
    if spread:
        chances = norm.cdf(np.array([0.5, 0.5, 0.52]) / np.sqrt(noise + 0.2**2 + spread**2))
    else:  # of these sets
        chances = norm.cdf(margin / np.sqrt(noise)).mean(axis=1)
    return Draw(before, np.array(after), chances[1:] - chances[0], {"training_sets": (of_sets[0], of_sets[1:])})


def ranked(rng: Generator, n: int, *, sharing: bool) -> Draw:
    """Cosines of pairs of sentences that rank like a target; each setting has an effect on a sentence in all its pairs."""
    pairs = shared_sentences(rng, n) if sharing else np.arange(2 * n).reshape(n, 2)
    own, common = rng.normal(size=(2, n))
    # Pairs with one sentence in common have similar ratings.
    target = np.sqrt(0.8) * rng.normal(size=pairs.max() + 1)[pairs[:, 0]] + np.sqrt(0.2) * own
    of_sentence = rng.normal(size=(3, pairs.max() + 1))[:, pairs].sum(axis=2) / np.sqrt(2)
    noise = np.sqrt(0.5) * common + np.sqrt(0.4) * of_sentence + np.sqrt(0.1) * rng.normal(size=(3, n))
    rho = np.array([0.7, 0.7, 0.72])
    before, *after = rho[:, None] * target + np.sqrt(1 - rho**2)[:, None] * noise
    truth = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's correlation of normal variables
    arguments = {"target": target, "members": pairs.tolist()}
    return Draw(before, np.array(after), truth[1:] - truth[0], arguments)


def shared_sentences(rng: Generator, n: int) -> npt.NDArray[np.int64]:
    """Return ids of two sentences for each of n pairs, (n, 2): 39 % share one, most with a few sentences, as in STS12."""
    pairs = np.arange(2 * n).reshape(n, 2)
    hubs = n // 15
    popular = 1 / np.sqrt(np.arange(1, hubs + 1))
    number = round(0.39 * n)
    pairs[:number, 0] = 2 * n + rng.choice(hubs, size=number, p=popular / popular.sum())
    return pairs


class Kind(NamedTuple):
    """Data of one kind, and which of their arguments `paired` is not told."""

    name: str
    n: int
    draw: Callable[[Generator, int], Draw]
    untold: str = ""


fixed_sets, ten_sets, hundred_sets = (
    partial(accuracy, sets=sets, spread=spread) for sets, spread in ((10, 0.0), (10, 0.1), (100, 0.1))
)
KINDS = [
    *(Kind("nDCG@10", n, ndcg) for n in (20, 120, 1000)),
    Kind("nDCG@10, 2 % changed", 1000, partial(ndcg, changed=0.02, gain=0.005)),
    Kind("197 clusters", 1527, clustered),
    Kind("197 clusters, as independent", 1527, clustered, "clusters"),
    Kind("accuracy, given 10 training sets", 1000, fixed_sets, "training_sets"),
    Kind("accuracy, 10 training sets", 1000, ten_sets),
    Kind("accuracy, 10 training sets, sets held fixed", 1000, ten_sets, "training_sets"),
    Kind("accuracy, 100 training sets", 1000, hundred_sets),
    Kind("accuracy, 100 training sets, sets held fixed", 1000, hundred_sets, "training_sets"),
    Kind("Spearman", 1000, partial(ranked, sharing=False)),
    Kind("Spearman, shared sentences", 1000, partial(ranked, sharing=True)),
    Kind("Spearman, shared sentences, as independent", 1000, partial(ranked, sharing=True), "members"),
]


def simulate(kind: Kind, repetitions: int, resamples: int = RESAMPLES) -> list[dict[str, Any]]:
    """Return a row for each setting."""
    found, held = np.zeros((2, 2))
    for repetition in range(repetitions):
        baseline, scores, truth, arguments = kind.draw(np.random.default_rng([kind.n, repetition]), kind.n)
        told = {name: value for name, value in arguments.items() if name != kind.untold}
        sample = paired(baseline, scores, **told, resamples=resamples, seed=repetition)
        _, low, high = sample.interval()
        found += sample.p_value() <= 0.05
        held += (low <= truth) & (truth <= high)
    return [
        {
            "kind": kind.name,
            "n": kind.n,
            "setting": setting,
            "false_positives": found[k] / repetitions if setting == "no effect" else None,
            "coverage": held[k] / repetitions,
            "repetitions": repetitions,
        }
        for k, setting in enumerate(SETTINGS)
    ]


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with ProcessPoolExecutor(2) as pool:
        rows = [row for rows in pool.map(partial(simulate, repetitions=REPETITIONS), KINDS) for row in rows]
    write_table(pd.DataFrame(rows), out, {"command": f"python coverage.py {out}", "resamples": str(RESAMPLES)})
