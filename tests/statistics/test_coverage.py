"""How often tests are wrong and intervals hold: a smaller run of `book/results/coverage.py`, and the pairs of STS12."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from tempscale.statistics.paired import paired

spec = importlib.util.spec_from_file_location(
    "coverage_of_book", Path(__file__).parents[2] / "book/results/coverage.py"
)
coverage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage)

KINDS = {f"{kind.name}, n = {kind.n}": kind for kind in coverage.KINDS}


def band(rate, repetitions):
    """Return three standard errors of a simulated rate."""
    return 3 * np.sqrt(rate * (1 - rate) / repetitions)


@pytest.mark.parametrize(
    "name",
    [
        "nDCG@10, n = 120",
        "197 clusters, n = 1527",
        "accuracy, given 10 training sets, n = 1000",
        "accuracy, 10 training sets, n = 1000",
        "Spearman, shared sentences, n = 1000",
    ],
)
def test_rates_are_those_that_are_promised(name):
    repetitions = 200
    for row in coverage.simulate(KINDS[name], repetitions, resamples=300):
        # percentiles of 300 resamples
        assert abs(row["coverage"] - 0.95) < band(0.95, repetitions) + 0.01
        if row["setting"] == "no effect":
            assert abs(row["false_positives"] - 0.05) < band(0.05, repetitions)


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        ("197 clusters, as independent, n = 1527", 0.15),
        ("accuracy, 10 training sets, sets held fixed, n = 1000", 0.15),
        ("Spearman, shared sentences, as independent, n = 1000", 0.1),
    ],
)
def test_what_leaving_the_dependence_out_costs(name, at_least):
    no_effect, _ = coverage.simulate(KINDS[name], repetitions=150, resamples=300)
    assert no_effect["false_positives"] > at_least
    assert no_effect["coverage"] < 1 - at_least


def test_pairs_share_sentences_as_in_sts12():
    pairs = coverage.shared_sentences(np.random.default_rng(0), 1000)
    number = np.bincount(pairs.ravel())
    assert abs((number[pairs] > 1).any(axis=1).mean() - 0.39) < 0.01
    assert 10 < number.max() < 50


DATA = os.environ.get("TEMPSCALE_DATA", "")


@pytest.mark.skipif(not DATA, reason="TEMPSCALE_DATA names no folder with public data sets")
@pytest.mark.parametrize("ranked", [False, True])
def test_false_positives_on_the_pairs_of_sts12(ranked):
    """Exchangeable settings with effects on sentences: about every fifth test is wrong if pairs count as independent."""
    import pandas as pd

    rows = pd.read_parquet(f"{DATA}/STS12/test.parquet")
    n, repetitions = len(rows), 600
    ids, sentences = pd.factorize(pd.concat([rows.sentence1, rows.sentence2]))
    pairs = np.stack([ids[:n], ids[n:]], axis=1)
    target = ((rows.score - rows.score.mean()) / rows.score.std()).to_numpy()
    wrong = {"as independent": 0, "sharing": 0}
    for repetition in range(repetitions):
        rng = np.random.default_rng(repetition)
        of_sentence = rng.normal(size=(2, len(sentences)))[:, pairs].sum(axis=2) / np.sqrt(2)
        before, after = target + 0.8 * rng.normal(size=n) + 0.5 * of_sentence + 0.3 * rng.normal(size=(2, n))
        for name, members in (("as independent", None), ("sharing", pairs.tolist())):
            gold = target if ranked else None
            found = paired(before, after, target=gold, members=members, resamples=199, seed=repetition)
            wrong[name] += found.p_value()[0] <= 0.05
    assert wrong["as independent"] / repetitions > 0.15
    assert abs(wrong["sharing"] / repetitions - 0.05) < band(0.05, repetitions)
