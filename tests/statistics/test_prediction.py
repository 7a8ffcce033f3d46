"""Random effects over tasks: the textbook's intervals where tasks are exact, coverage where they are not."""

import numpy as np
import pytest
from scipy import stats

from tempscale.statistics.prediction import predict_task


def test_exact_tasks_give_the_intervals_of_the_textbook():
    effects = np.array([0.3, -0.1, 0.2, 0.5, 0.1, -0.4])
    (found,) = predict_task(effects, np.zeros(6), ["STS"] * 6)
    reach, spread = stats.t.ppf(0.975, 5), effects.std(ddof=1)
    assert found.mean == pytest.approx(effects.mean())
    assert found.mean_low == pytest.approx(effects.mean() - reach * spread / np.sqrt(6), abs=1e-3)
    assert found.high == pytest.approx(effects.mean() + reach * spread * np.sqrt(1 + 1 / 6), abs=1e-3)
    # the median of the variance, which is skewed, lies above the usual estimate
    assert found.between == pytest.approx(np.sqrt(spread**2 * 5 / stats.chi2.median(5)), rel=1e-3)


def test_equal_effects_are_their_mean_and_only_errors_are_left():
    (found,) = predict_task([0.2] * 30, [0.1] * 30, ["STS"] * 30)
    assert found.mean == pytest.approx(0.2)
    assert found.between < 1e-3
    assert found.mean_high - 0.2 == pytest.approx(1.96 * 0.1 / np.sqrt(30), rel=0.1)


def test_a_precise_task_counts_more():
    (found,) = predict_task([0.0, 0.0, 1.0], [0.01, 0.01, 10.0], ["STS"] * 3)
    assert found.mean < 0.2


def test_three_tasks_borrow_the_variance_of_all_kinds_and_two_are_not_reported():
    effects = [0.0, 0.1, 0.2, 5.0, 7.0, 9.0, 0.0, 1.0]
    kinds = ["STS"] * 3 + ["Retrieval"] * 3 + ["Other"] * 2
    sts, retrieval = predict_task(effects, [0.01] * 8, kinds)
    assert (sts.kind, sts.tasks, retrieval.kind) == ("STS", 3, "Retrieval")
    assert sts.pooled
    assert sts.between == pytest.approx(retrieval.between)
    (alone,) = predict_task(effects[:3], [0.01] * 3, kinds[:3])
    assert sts.high - sts.low > 2 * (alone.high - alone.low)
    *_, enough = predict_task([*effects[:3], 0.3, 0.1, *effects[3:]], [0.01] * 10, ["STS"] * 2 + kinds)
    assert enough.kind == "Retrieval"
    assert enough.pooled


@pytest.mark.parametrize(("tasks", "between"), [(5, 0.5), (5, 0.1), (10, 0.5)])
def test_intervals_cover(tasks, between):
    rng = np.random.default_rng(0)
    repetitions, covered = 300, np.zeros(2)
    for _ in range(repetitions):
        errors = rng.uniform(0.1, 0.5, tasks)
        effects = 0.2 + between * rng.normal(size=tasks) + errors * rng.normal(size=tasks)
        (found,) = predict_task(effects, errors, ["STS"] * tasks)
        new = 0.2 + between * rng.normal()
        covered += [found.mean_low <= 0.2 <= found.mean_high, found.low <= new <= found.high]
    assert (covered / repetitions > 0.95 - 3 * np.sqrt(0.95 * 0.05 / repetitions)).all()


@pytest.mark.parametrize(
    ("effects", "errors", "kinds", "confidence", "message"),
    [
        (
            [0.1, 0.2],
            [0.1],
            ["a", "a"],
            0.95,
            r"an error and a kind for each effect, not shapes \(2,\), \(1,\), \(2,\)",
        ),
        ([0.1, np.nan], [0.1, 0.1], ["a", "a"], 0.95, "finite effects and errors of at least 0"),
        ([0.1, 0.2], [0.1, -0.1], ["a", "a"], 0.95, "errors of at least 0"),
        ([0.1, 0.2], [0.1, 0.1], ["a", "a"], 1.0, "between 0 and 1, not 1.0"),
    ],
)
def test_bad_input_is_named(effects, errors, kinds, confidence, message):
    with pytest.raises(ValueError, match=message):
        predict_task(effects, errors, kinds, confidence=confidence)
