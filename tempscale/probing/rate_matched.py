"""Temperatures by layer and length at which attention filters long texts as it does those of a reference length."""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tempscale.patching.patch import patch
from tempscale.patching.schedules import ByLength, Layered, PerLayer, check_number
from tempscale.probing.probe import probe

Floats = npt.NDArray[np.float64]

# Of log(filter rate) against log(temperature): the slope believed at first, and the range of slopes. Weak logits have -1,
# trained heads about -2.
_SLOPE, _SLOPES = -2.0, (-4.0, -0.25)


@dataclass(frozen=True)
class RateMatched(Layered):
    """Measured temperatures, by layer and length: each layer keeps the filter rate that it has at a reference length.

    Texts up to the reference length have the temperature 1, longer ones those of `lengths`. In between log(temperature) is
    linear in log(n); beyond the last length it stays. Tokens are counted by the attention mask, special tokens included.

    It mostly asks for the opposite of TempScale, and that is a finding. The filter rate of random logits falls with the
    length, and would need temperatures below 1; that of trained models mostly *grows*. So most temperatures for long
    texts are above 1, and make attention more uniform.

    Args:
        reference_length: length up to which the temperature is 1, in tokens, at least 1.
        lengths: lengths in tokens, increasing, above the reference length.
        temperatures: temperatures (layers, lengths).
        misfits: shares (layers, lengths) by which targets were missed, filter rate / target - 1; empty if none was measured.
        bounds: smallest and largest temperature that was tried.
        about: origin of the temperatures: model, texts, versions.

    Raises:
        ValueError: an argument outside these ranges.

    >>> schedule = RateMatched(64, [128, 256], [[1.0, 1.0], [1.21, 1.44]])
    >>> [temperature(torch.tensor([32, 128, 256, 999])) for temperature in schedule.per_layer(2)]
    [tensor([1., 1., 1., 1.]), tensor([1.0000, 1.2100, 1.4400, 1.4400])]
    """

    reference_length: int
    lengths: Sequence[int]
    temperatures: Sequence[Sequence[float]]
    misfits: Sequence[Sequence[float]] = field(default=(), compare=False)
    bounds: tuple[float, float] = field(default=(0.25, 4.0), compare=False)
    about: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_lengths(self.reference_length, self.lengths)
        if not self.temperatures:
            raise ValueError("RateMatched has no layer: give temperatures (layers, lengths)")
        for name in ("temperatures", "misfits"):
            rows = getattr(self, name)
            wrong = [len(row) for row in rows if len(row) != len(self.lengths)]
            if wrong or len(rows) not in (len(self.temperatures), 0):
                raise ValueError(
                    f"{name} must be {len(self.temperatures)} layers x {len(self.lengths)} lengths, not {len(rows)} rows of "
                    f"{wrong[0] if wrong else len(self.lengths)}"
                )
        for name, value in (
            ("reference_length", int(self.reference_length)),
            ("lengths", tuple(map(int, self.lengths))),
            ("temperatures", tuple(tuple(map(check_number, row)) for row in self.temperatures)),
            ("misfits", tuple(tuple(map(float, row)) for row in self.misfits)),
            ("bounds", _checked_bounds(self.bounds)),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def measure(
        cls,
        model: nn.Module,
        texts: Sequence[Any],
        *,
        reference_length: int,
        lengths: Sequence[int],
        tolerance: float = 0.01,
        max_rounds: int = 12,
        bounds: tuple[float, float] = (0.25, 4.0),
        about: Mapping[str, str] | None = None,
        progress: Callable[[float], object] = lambda share: None,
    ) -> Self:
        """Measure the temperatures on texts, which are cut to the reference length and to every length.

        A layer's filter rate is here the geometric mean of σₐ over texts and heads, so that a head with a rate below 1
        counts as much as one with a rate of 5, which would dominate an arithmetic mean.

        Args:
            model: a SentenceTransformer, or a transformers model for texts of token ids; without a temperature.
            texts: texts at least as long as the longest length; 16 are enough, since all lengths are compared on the same.
            reference_length: length whose filter rates are kept, in tokens, at least 3.
            lengths: lengths in tokens, increasing, above the reference length.
            tolerance: largest share by which a layer's filter rate may miss its target.
            max_rounds: largest number of probes of the model at each length.
            bounds: smallest and largest temperature to try.
            about: origin of the temperatures, kept with them; by default the model's class and the number of texts.
            progress: function that is called with the share of the work that is done.

        Raises:
            ValueError: a text that is too short, a head of filter rate 0, layers that share weights, a patched model, or an
                argument outside its range.
            UnsupportedModelError: as in `patch` and `probe`.

        Warns:
            UserWarning: layers that do not reach their target, at a bound or anywhere: a filter rate need not reach every
                value at some temperature. They have the temperatures that came near; see `misfits`.
        """
        _check_lengths(reference_length, lengths)
        if not 1e-4 <= tolerance < 1 or max_rounds < 1:
            raise ValueError(f"tolerance {tolerance} and max_rounds {max_rounds}: expected 0.0001 to 1, and at least 1")
        fitted, misfits = _fit(
            model,
            texts,
            reference_length,
            lengths,
            tolerance=tolerance,
            max_rounds=max_rounds,
            bounds=_checked_bounds(bounds),
            progress=progress,
        )
        schedule = cls(
            reference_length,
            lengths,
            fitted.tolist(),
            misfits.tolist(),
            bounds,
            {"model": type(model).__name__, "texts": f"{len(texts)}"} if about is None else about,
        )
        missed = schedule.missed(tolerance)
        if missed:
            warnings.warn(
                f"{len(missed)} of {misfits.size} filter rates miss their target by more than {tolerance:.2%}: "
                + ", ".join(missed),
                stacklevel=2,
            )
        return schedule

    def missed(self, tolerance: float) -> list[str]:
        """Describe the layers and lengths whose filter rate missed its target by more than a share."""
        return [
            f"layer {layer} at {tokens} tokens ({misfit:+.1%} at temperature {temperature:.2f}"
            f"{', a bound' if temperature in self.bounds else ''})"
            for layer, row in enumerate(self.misfits)
            for tokens, misfit, temperature in zip(self.lengths, row, self.temperatures[layer], strict=True)
            if abs(misfit) > tolerance
        ]

    @property
    def residual(self) -> float:
        """The largest share by which a filter rate missed its target; NaN if nothing was measured."""
        return max((abs(misfit) for row in self.misfits for misfit in row), default=math.nan)

    def per_layer(self, n_layers: int) -> list[float | ByLength]:
        """Return a function of lengths for each attention layer, or raise ValueError if the model has others."""
        if len(self.temperatures) != n_layers:
            raise ValueError(
                f"RateMatched has {len(self.temperatures)} layers, but the model has {n_layers} attention layers: "
                "measure it on this model"
            )
        return [Interpolated((self.reference_length, *self.lengths), (1.0, *row)) for row in self.temperatures]

    @property
    def by_length(self) -> bool:
        """True, since its temperatures depend on the length."""
        return True

    def __str__(self) -> str:
        """Return its label, with a hash of what determines the temperatures."""
        values = json.dumps([self.reference_length, self.lengths, self.temperatures])
        return f"RateMatched({hashlib.sha256(values.encode()).hexdigest()[:8]})"

    def save(self, path: str | Path) -> None:
        """Write the schedule to a JSON file."""
        Path(path).write_text(
            json.dumps({"schedule": "RateMatched", **asdict(self)}, indent=1) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the schedule from a file that `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is not one that `save` wrote.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(content, dict) or content.pop("schedule", None) != "RateMatched":
                raise ValueError("it does not name itself RateMatched")
            return cls(**content)
        except OSError as error:
            raise type(error)(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is no schedule that RateMatched.save wrote: {error}") from error


@dataclass(frozen=True)
class Interpolated:
    """A function of lengths: log(temperature) is linear in log(n) between knots, and constant outside."""

    lengths: tuple[int, ...]
    temperatures: tuple[float, ...]

    def __call__(self, lengths: torch.Tensor) -> torch.Tensor:
        """Return the temperatures (batch,) for token counts (batch,)."""
        found = torch.full(lengths.shape, math.log(self.temperatures[0]), device=lengths.device)
        for (n, tau), (n_next, tau_next) in pairwise(zip(self.lengths, self.temperatures, strict=True)):
            rise = math.log(tau_next / tau) / math.log(n_next / n)
            # of the quotient, so that it is exactly 0 up to n
            found = found + rise * (lengths.clamp(n, n_next).float() / n).log()
        return found.exp()


def _fit(
    model: nn.Module,
    texts: Sequence[Any],
    reference_length: int,
    lengths: Sequence[int],
    *,
    tolerance: float,
    max_rounds: int,
    bounds: tuple[float, float],
    progress: Callable[[float], object],
) -> tuple[Floats, Floats]:
    """Return temperatures and misfits, (layers, lengths), fitted length by length; arguments as in `RateMatched.measure`."""
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
            fits.append((np.exp(start).clip(*bounds), np.expm1(misfit)))
            done = reference_length + max_rounds * sum(lengths[: position + 1])
    progress(1.0)
    temperatures, missed = zip(*fits, strict=True)
    return np.stack(temperatures, axis=1), np.stack(missed, axis=1)


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
        # Steps this small bring no filter rate to a target that it misses.
        if not (far & (abs(x - before) > tolerance / 10)).any():
            break
        y_before, y = y, misfits(x)
        rounds.append((x, y))
        moved = abs(x - before) > 1e-6
        slope = np.clip(np.divide(y - y_before, x - before, out=slope.copy(), where=moved), *_SLOPES)
    return min(rounds, key=lambda found: float(abs(found[1]).mean()))


def _log_rates(model: nn.Module, texts: Sequence[Any], tokens: int) -> Floats:
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


def _check_lengths(reference_length: int, lengths: Sequence[int]) -> None:
    each = [reference_length, *lengths]
    if not all(isinstance(tokens, Integral) for tokens in each) or reference_length < 1 or len(each) < 2:
        raise ValueError(
            f"reference_length {reference_length!r} and lengths {lengths!r}: expected whole numbers of tokens"
        )
    if any(after <= before for before, after in pairwise(each)):
        raise ValueError(
            f"lengths {list(lengths)} must increase from above reference_length {reference_length}: shorter texts keep 1"
        )


def _checked_bounds(bounds: Sequence[float]) -> tuple[float, float]:
    low, high = map(check_number, bounds)
    if not low <= 1 <= high:
        raise ValueError(f"bounds {tuple(bounds)} must contain 1, the temperature that changes nothing")
    return low, high
