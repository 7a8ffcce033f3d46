"""*Would you see it?*: its data, its static picture, and the simulation that its script does in the browser.

The data are the changes of nDCG@10, in hundredths of a point, that each of eight settings made to each of the thousand
queries of DocstringRetrieval, against temperature 1 on the same query (MiniLM, 512 tokens; the study's items.csv).

The simulation takes the measured changes for the noise and a gain of your choice for the truth: where d is the change
that setting k made to query i, the population is d - mean over all queries + gain, so that every setting truly changes
the score by `gain`. A repetition draws `labels` queries with replacement, the same ones for all settings, and tries the
first `settings` of the eight. Let x be a setting's mean on these queries and s its standard deviation (ddof 1).

    mean:      choose the largest x; deploy it if x > 0.
    interval:  choose the largest x; deploy it if its interval x ± 1.96 s / √labels lies above 0 (and s > 0).
    held out:  choose the largest mean on the first half of the queries, labels // 2 of them; deploy the setting if its
               interval on the other half lies above 0.

The estimate is the mean of the chosen setting on the queries that decide. To deploy is harm if gain < 0,
and takes a real gain if gain > 0.
"""

import json
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from repository import ROOT

from tempscale.plots import PALETTE, style

TASK = "DocstringRetrieval"
BASELINE = "minilm 512 1.0"
# Colder first; the last one is colder the longer the text.
SETTINGS = {
    **{f"temperature {tau}": f"minilm 512 {tau}" for tau in ("0.9", "0.95", "0.85", "0.8", "0.7", "1.2", "0.5")},
    "temperature by length": "minilm 512 LogLength(reference_length=64, temperature=1.0, exponent=1.0)",
}
RULES = {"mean": "the best mean", "interval": "interval above 0", "held out": "held-out half"}
Z = 1.96


class Outcome(NamedTuple):
    """What the repetitions of one rule came to, in points; arrays of one number a repetition."""

    estimate: np.ndarray
    deployed: np.ndarray


def stored(task: str = TASK) -> np.ndarray:
    """The measured changes in hundredths of a point, (queries, settings)."""
    items = pd.read_csv(ROOT / "book" / "results" / "study" / "items.csv", comment="#", low_memory=False)
    items = items[items.task == task]
    changes = items[list(SETTINGS.values())].sub(items[BASELINE], axis=0)
    return np.rint(10_000 * changes.to_numpy()).astype(int)


def simulate(
    changes: np.ndarray, *, labels: int, settings: int, gain: float, rule: str, repetitions: int, seed: int = 0
) -> Outcome:
    """Play a rule through: see the module.

    Args:
        changes: (queries, settings) of `stored`.
        rule: one of `RULES`.
    """
    rng = np.random.default_rng(seed)
    points = changes[:, :settings] / 100
    points = points - points.mean(0) + gain
    every = np.arange(repetitions)
    drawn = points[rng.integers(len(points), size=(repetitions, labels))]  # (repetitions, labels, settings)
    half = labels // 2 if rule == "held out" else 0
    chosen = (drawn[:, :half] if half else drawn).mean(1).argmax(1)
    judging = drawn[every, half:, chosen]
    estimate, spread = judging.mean(1), judging.std(1, ddof=1)
    reach = 0 if rule == "mean" else Z * spread / np.sqrt(labels - half)
    # the same change for every query is no interval at all; it is rounding where it is not 0
    return Outcome(estimate, (estimate > reach) & ((rule == "mean") | (spread > 1e-9)))


def build(folder: Path) -> None:
    """Write deploy.json and deploy.svg."""
    changes = stored()
    data = {"settings": list(SETTINGS), "changes": changes.T.tolist()}
    (folder / "deploy.json").write_text(json.dumps(data, separators=(",", ":")) + "\n", "utf-8")
    draw(changes, folder / "deploy.svg")


@style()
def draw(changes: np.ndarray, file: Path) -> None:
    """Draw how often each rule deploys something, against the true gain, for 100 labels and eight settings."""
    gains = np.linspace(-2, 2, 41)
    figure, axes = plt.subplots(1, len(RULES), figsize=(8, 3), sharey=True)
    for axis, (rule, title) in zip(axes, RULES.items(), strict=True):
        same = {"labels": 100, "settings": 8, "rule": rule, "repetitions": 1000}
        share = np.array([100 * simulate(changes, gain=gain, **same).deployed.mean() for gain in gains])
        axis.fill_between(gains, share, where=gains <= 0, color=PALETTE[1], alpha=0.5, label="harm")
        axis.fill_between(gains, share, where=gains >= 0, color=PALETTE[0], alpha=0.5, label="a gain, taken")
        axis.plot(gains, share, color="black")
        axis.set(title=title, xlabel="true gain, points", xlim=(-2, 2), ylim=(0, 100))
    axes[0].set_ylabel("deployed, % of cases")
    axes[-1].legend(loc="upper left")
    with plt.rc_context({"svg.hashsalt": "deploy"}):
        figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
