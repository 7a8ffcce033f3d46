"""Find the temperatures of all layers at which a model has, on longer texts, the filter rates of shorter ones."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tempscale.patch import patch
from tempscale.probe import probe
from tempscale.schedules import PerLayer

if TYPE_CHECKING:
    from torch import nn

Floats = npt.NDArray[np.float64]

# Of log(filter rate) against log(temperature): what is believed at first, and at most. Weak logits have -1, trained heads
# about -2.
_SLOPE, _SLOPES = -2.0, (-4.0, -0.25)


class Fit(NamedTuple):
    """Temperatures (layers, lengths), and by which share the filter rates miss their targets there."""

    temperatures: Floats
    misfits: Floats


def fit(
    model: "nn.Module",
    texts: Sequence[Any],
    reference_length: int,
    lengths: Sequence[int],
    *,
    tolerance: float,
    max_rounds: int,
    bounds: tuple[float, float],
    progress: Callable[[float], object],
) -> Fit:
    """Fit increasing lengths one after the other; arguments as in `RateMatched.measure`."""
    done, work = 0, reference_length + max_rounds * sum(lengths)

    def log_rates(tokens: int) -> Floats:
        nonlocal done
        done += tokens
        found = _log_rates(model, texts, tokens)
        progress(done / work)
        return found

    fits = []
    with patch(model, 1.0) as active:
        target = log_rates(reference_length)
        if len(target) != len(active.sites):
            raise ValueError(
                f"{len(target)} attention layers of the model share {len(active.sites)} modules, so they cannot have "
                "temperatures of their own: use a schedule for all layers, such as LogLength"
            )

        def misfits(tokens: int, log_temperatures: Floats) -> Floats:
            active.temperature = PerLayer(np.exp(log_temperatures).tolist())
            return log_rates(tokens) - target

        start = np.zeros(len(target))
        for position, tokens in enumerate(lengths):
            start, misfit = _solve(partial(misfits, tokens), start, tolerance, max_rounds, np.log(bounds))
            fits.append(Fit(np.exp(start).clip(*bounds), np.expm1(misfit)))
            done = reference_length + max_rounds * sum(lengths[: position + 1])
    progress(1.0)
    return Fit(*(np.stack(columns, axis=1) for columns in zip(*fits, strict=True)))


def _solve(
    misfits: Callable[[Floats], Floats], start: Floats, tolerance: float, max_rounds: int, bounds: Floats
) -> tuple[Floats, Floats]:
    """Return log temperatures (layers,) within bounds and their misfits: the best of the rounds, on average over layers.

    What enters a layer depends on the temperatures below it. So each round measures all layers at once, and then each takes
    a secant step of its own: the lowest converges first. A step that has led away from the target is taken back, and the
    next may be half as long: so a layer that cannot reach its target stops near it.
    """
    before = x = start
    y_before = y = misfits(x)
    rounds = [(x, y)]
    slope, longest = np.full(len(x), _SLOPE), np.ones(len(x))
    while len(rounds) < max_rounds:
        far = abs(np.expm1(y)) > tolerance
        away = far & (y * y_before > 0) & (abs(y) > abs(y_before))
        longest = np.where(away, longest / 2, longest)
        step = np.where(away, before - x, np.clip(-y / slope, -longest, longest))
        before, x = x, np.clip(x + step, *bounds)
        # A step so small does not bring a filter rate to its target from where it misses it.
        if not (far & (abs(x - before) > tolerance / 10)).any():
            break
        y_before, y = y, misfits(x)
        rounds.append((x, y))
        moved = abs(x - before) > 1e-6
        slope = np.clip(np.divide(y - y_before, x - before, out=slope.copy(), where=moved), *_SLOPES)
    return min(rounds, key=lambda found: float(abs(found[1]).mean()))


def _log_rates(model: "nn.Module", texts: Sequence[Any], tokens: int) -> Floats:
    """Return the mean over texts and heads of the log of the filter rate, (layers,)."""
    table = probe(model, texts, max_tokens=tokens)
    short = table[table.tokens < tokens]
    if len(short):
        raise ValueError(
            f"text {short.text.iloc[0]} has {short.tokens.iloc[0]} tokens, and a length is {tokens}: give texts that are as "
            "long as the longest length"
        )
    zero = table[table.filter_rate == 0]
    if len(zero):
        raise ValueError(
            f"head {zero['head'].iloc[0]} of layer {zero.layer.iloc[0]} has the filter rate 0 of uniform attention, "
            "which no temperature changes"
        )
    found: Floats = np.log(table.filter_rate).groupby(table.layer).mean().to_numpy()
    return found
