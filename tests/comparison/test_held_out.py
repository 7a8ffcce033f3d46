"""Leave one task out: the choice against a plain loop, interval and test against simulations whose truth is known."""

import numpy as np
import pytest

from tempscale.comparison.held_out import leave_one_task_out
from tempscale.statistics.paired import Paired, paired


def simulated(rng, effects, items=60, resamples=400, shared=0.0):
    """Paired samples of tasks whose settings have these true effects, (tasks, k), with unit noise."""
    samples = []
    for of_task in effects:
        noise = np.sqrt(shared) * rng.normal(size=items)
        noise = noise + np.sqrt(1 - shared) * rng.normal(size=(len(of_task), items))
        after = np.asarray(of_task)[:, None] + noise
        samples.append(paired(np.zeros(items), after, resamples=resamples, seed=int(rng.integers(2**32))))
    return samples


def test_choice_and_mean_by_a_plain_loop():
    rng = np.random.default_rng(0)
    for _ in range(50):
        tasks = simulated(rng, np.zeros((4, 3)), items=12, resamples=5)
        choice, mean = leave_one_task_out(tasks)
        for source in ("difference", "bootstrap", "null"):
            values = np.stack([np.atleast_2d(getattr(task, source)) for task in tasks], axis=1)
            for resample, expected in zip(values, np.atleast_2d(getattr(mean, source)), strict=True):
                gains = []
                for t in range(4):
                    on_others = [np.mean([resample[o, k] for o in range(4) if o != t]) for k in range(3)]
                    best = int(np.argmax(on_others))
                    best = best if on_others[best] > 0 else -1
                    gains.append(resample[t, best] if best >= 0 else 0.0)
                    assert source != "difference" or choice[t] == best
                assert np.isclose(np.mean(gains), expected[0])


def truth_of(choice, effects):
    """The true mean effect of the choices that were made."""
    return np.mean([effects[t][c] if c >= 0 else 0 for t, c in enumerate(choice)])


@pytest.mark.parametrize("shared", [0.0, 0.8])
@pytest.mark.parametrize("effect", [0.0, 0.3])
def test_interval_covers_and_fixed_choices_would_not(effect, shared):
    """Six tasks, ten settings; effects of 0 or about two standard errors, noise apart or mostly shared."""
    rng, repetitions = np.random.default_rng(1), 400
    covered = fixed = rejected = 0
    for _ in range(repetitions):
        effects = effect * rng.normal(size=10) * np.ones((6, 1))
        tasks = simulated(rng, effects, shared=shared)
        choice, mean = leave_one_task_out(tasks)
        truth = truth_of(choice, effects)
        covered += mean.interval().low[0] <= truth <= mean.interval().high[0]
        rejected += mean.p_value()[0] <= 0.05
        conditional = np.mean(
            [t.bootstrap[:, c] if c >= 0 else np.zeros(400) for t, c in zip(tasks, choice, strict=True)], axis=0
        )
        low, high = np.quantile(conditional, [0.025, 0.975])
        fixed += low <= truth <= high
    error = 3 * np.sqrt(0.95 * 0.05 / repetitions)
    # 0.01: percentiles of 60 items and 400 resamples
    assert covered / repetitions > 0.95 - error - 0.01
    if effect == 0:
        assert abs(rejected / repetitions - 0.05) < error
        assert fixed / repetitions < 0.9


def test_a_setting_that_helps_everywhere_is_found():
    effects = np.tile([0.0, 0.5], (4, 1))
    choice, mean = leave_one_task_out(simulated(np.random.default_rng(2), effects, resamples=2000))
    assert choice.tolist() == [1] * 4
    assert mean.interval().low[0] > 0.2
    assert mean.p_value()[0] < 0.01


def test_one_task_has_no_others():
    with pytest.raises(ValueError, match="choosing on other tasks needs at least two tasks, not 1"):
        leave_one_task_out([paired(np.zeros(20), np.ones(20))])


def test_joined_settings_are_those_measured_together():
    before, *after = np.random.default_rng(3).normal(size=(3, 20))
    apart = Paired.join([paired(before, one, seed=4) for one in after])
    together = paired(before, after, seed=4)
    assert np.allclose(apart.bootstrap, together.bootstrap)
    assert np.allclose(apart.null, together.null)
