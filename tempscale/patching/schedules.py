"""Temperatures: a number, a function of the length of a text, or one of these for each layer."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Union

import torch
import torch.nn.functional as F

ByLength = Callable[[torch.Tensor], torch.Tensor]
Schedule = Union[float, ByLength, "Layered"]

# The range of temperatures is from here to its inverse.
LEAST = 1e-3

# What a temperature depends on.
Kind = Literal["uniform", "per layer", "per sequence"]


@dataclass(frozen=True)
class LogLength:
    """A temperature that falls with the number of tokens n of a text.

    It is temperature * (ln reference_length / ln n) ** exponent. Texts up to the reference length have the temperature
    itself. An exponent of 1, log-n scaling, keeps the weight of a token that is ahead of all others; 1/2 keeps the entropy
    of Gaussian logits at its share of ln n. Tokens are counted by the attention mask, special tokens included.

    Args:
        reference_length: length in tokens, at least 2.
        temperature: temperature of texts up to the reference length.
        exponent: number, finite and not negative; 0 is a constant temperature.

    Raises:
        ValueError: an argument outside these ranges.

    >>> LogLength(16, temperature=0.9)(torch.tensor([8, 16, 256]))
    tensor([0.9000, 0.9000, 0.4500])
    """

    reference_length: int
    temperature: float = 1.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        check_number(self.temperature)
        if not (math.isfinite(self.reference_length) and self.reference_length >= 2):
            raise ValueError(f"reference_length must be at least 2 tokens, not {self.reference_length!r}")
        if not (math.isfinite(self.exponent) and self.exponent >= 0):
            raise ValueError(f"exponent must be finite and not negative, not {self.exponent!r}; 1 is log-n scaling")

    def __call__(self, lengths: torch.Tensor) -> torch.Tensor:
        """Return the temperatures (batch,) for token counts (batch,)."""
        logs = lengths.clamp(min=self.reference_length).float().log()
        return self.temperature * (math.log(self.reference_length) / logs) ** self.exponent


@dataclass(frozen=True)
class LengthRule:
    """A temperature that falls with the number of tokens n, so that a law for random logits keeps its filter rate.

    It is s / sqrt(ln(1 + c n)) with s = logit_std, and c such that a text of reference_length has the temperature itself;
    shorter ones have it too. So 2 sqrt((exp(s²/τ²) - 1) / n), the filter rate of softmax over independent Gaussian logits,
    is the same for every n from the reference on: see `tempscale.random_markov_rate` for the law, and
    `tempscale.length_matched_temperature` for the solution. The hypotheses: all logits are independent N(0, s²) before the
    temperature, and so weak that s/τ is below 0.29 sqrt(ln n), roughly; beyond, the true rate rises. The logits of a
    trained head are neither: `tempscale.RateMatched` measures instead.

    Args:
        reference_length: length in tokens, at least 1.
        logit_std: standard deviation s of the logits at temperature 1.
        temperature: temperature of texts up to the reference length.

    Raises:
        ValueError: an argument outside these ranges, or logit_std / temperature outside 0.001 to 26.

    >>> LengthRule(128, logit_std=0.5)(torch.tensor([32, 128, 512]))
    tensor([1.0000, 1.0000, 0.5739])
    """

    reference_length: int
    logit_std: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_number(self.temperature)
        if not (math.isfinite(self.reference_length) and self.reference_length >= 1):
            raise ValueError(f"reference_length must be at least 1 token, not {self.reference_length!r}")
        if not 1e-3 <= self.logit_std / self.temperature <= 26:
            raise ValueError(
                f"logit_std / temperature must be from 0.001 to 26, not {self.logit_std!r} / {self.temperature!r}: "
                "the law is for weak logits"
            )

    def __call__(self, lengths: torch.Tensor) -> torch.Tensor:
        """Return the temperatures (batch,) for token counts (batch,)."""
        square = (self.logit_std / self.temperature) ** 2
        # ln(1 + n/n₀ (exp(square) - 1)), where the exponential itself is too large for single precision
        ratio = lengths.clamp(min=self.reference_length).float() / self.reference_length
        return self.logit_std / F.softplus(ratio.log() + square + math.log(-math.expm1(-square))).sqrt()


class Layered(ABC):
    """A schedule with a temperature for each layer. Its string is its label, the key of stored results."""

    @abstractmethod
    def per_layer(self, n_layers: int) -> list[float | ByLength]:
        """Return the temperatures of a model with n attention layers, or raise ValueError if they do not fit."""

    @property
    @abstractmethod
    def by_length(self) -> bool:
        """Whether a temperature of some layer depends on the length."""


@dataclass(frozen=True)
class PerLayer(Layered):
    """A temperature for each layer.

    Args:
        temperatures: sequence with one for each attention layer of the model, or mapping from layers (negative ones count
            from the end) to temperatures, all others keeping 1. A temperature is a number, or a function of lengths.

    Raises:
        ValueError: a number outside 0.001 to 1000.

    >>> PerLayer({-1: 0.8}).per_layer(6)
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.8]
    """

    temperatures: Sequence[float | ByLength] | Mapping[int, float | ByLength]

    def __post_init__(self) -> None:
        for temperature in self._each():
            check_temperature(temperature)

    def _each(self) -> list[float | ByLength]:
        return list(self.temperatures.values() if isinstance(self.temperatures, Mapping) else self.temperatures)

    def per_layer(self, n_layers: int) -> list[float | ByLength]:
        """Return the temperatures of a model with n attention layers, or raise ValueError if they do not fit."""
        each = [check_temperature(temperature) for temperature in self._each()]
        if not isinstance(self.temperatures, Mapping):
            if len(each) != n_layers:
                raise ValueError(
                    f"PerLayer has {len(each)} temperatures, but the model has {n_layers} attention layers; "
                    "name only some with a mapping, PerLayer({-1: 0.8})"
                )
            return each
        found: list[float | ByLength] = [1.0] * n_layers
        for layer, temperature in zip(self.temperatures, each, strict=True):
            if not -n_layers <= layer < n_layers:
                raise ValueError(
                    f"PerLayer names layer {layer}, but the model has attention layers 0 to {n_layers - 1}"
                )
            found[layer] = temperature
        return found

    @property
    def by_length(self) -> bool:
        """Whether a temperature of some layer depends on the length."""
        return any(map(callable, self._each()))

    def __str__(self) -> str:
        """Return its label, with those of its temperatures."""
        if isinstance(self.temperatures, Mapping):
            each = (f"{layer}: {temperature_label(self.temperatures[layer])}" for layer in sorted(self.temperatures))
            return f"PerLayer({{{', '.join(each)}}})"
        return f"PerLayer([{', '.join(map(temperature_label, self.temperatures))}])"


def per_layer(temperature: Schedule, n_layers: int) -> list[float | ByLength]:
    """Return the temperature of each of n attention layers.

    >>> per_layer(0.8, 3), per_layer(PerLayer({0: 0.5}), 3)
    ([0.8, 0.8, 0.8], [0.5, 1.0, 1.0])
    """
    return temperature.per_layer(n_layers) if isinstance(temperature, Layered) else [temperature] * n_layers


def kind_of(temperature: Schedule) -> Kind:
    """Return what a temperature depends on.

    >>> kind_of(0.8), kind_of(PerLayer({-1: 0.8})), kind_of(PerLayer({-1: LogLength(64)}))
    ('uniform', 'per layer', 'per sequence')
    """
    if not isinstance(temperature, Layered):
        return "per sequence" if callable(temperature) else "uniform"
    return "per sequence" if temperature.by_length else "per layer"


def temperature_label(temperature: Schedule) -> str:
    """Return the label of a temperature: its number, its schedule, or a function's name and a hash of its values.

    Raises:
        ValueError: not a valid temperature.

    >>> temperature_label(1), temperature_label(PerLayer({-1: 0.8})), temperature_label(LogLength(64))
    ('1.0', 'PerLayer({-1: 0.8})', 'LogLength(reference_length=64, temperature=1.0, exponent=1.0)')
    >>> def falling(lengths):
    ...     return lengths ** -0.1
    >>> name, values = temperature_label(falling).split("#")
    >>> name, len(values)
    ('falling', 8)
    """
    checked = check_schedule(temperature)
    if isinstance(checked, (float, Layered)) or type(checked) in (LogLength, LengthRule):
        return str(checked)
    # A function is named after itself and what it returns: an edited one is another setting.
    name = getattr(checked, "__name__", type(checked).__name__)
    values = checked(_lengths()).double().numpy().tobytes()
    return f"{name}#{hashlib.sha256(values).hexdigest()[:8]}"


def is_plain(temperature: Schedule) -> bool:
    """Whether a temperature is the number 1, which leaves the model as it is."""
    return not isinstance(temperature, Layered) and not callable(temperature) and check_number(temperature) == 1


def check_schedule(temperature: Schedule) -> Schedule:
    """Return a number as a float and any other temperature as it is, or raise ValueError."""
    return temperature if isinstance(temperature, Layered) else check_temperature(temperature)


def check_temperature(temperature: float | ByLength) -> float | ByLength:
    """Return a number as a float and a function as it is, or raise ValueError."""
    return _check_function(temperature) if callable(temperature) else check_number(temperature)


def check_number(temperature: Any) -> float:
    """Return a valid temperature, any real number or an array or tensor of one, as a float, or raise ValueError.

    >>> from fractions import Fraction
    >>> check_number(Fraction(4, 5)), check_number(torch.tensor(0.5))
    (0.8, 0.5)
    """
    scalar = isinstance(temperature, Real) or getattr(temperature, "shape", None) == ()
    try:
        number = float(temperature) if scalar and not isinstance(temperature, bool) else math.nan
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"temperature must be a finite positive number, not {temperature!r}; 1 changes nothing")
    if not LEAST <= number <= 1 / LEAST:
        raise ValueError(
            f"temperature must be from {LEAST:g} to {1 / LEAST:g}, not {number:g}: beyond, attention looks at one token or "
            "at all alike, and numbers overflow"
        )
    return number


def _check_function(function: ByLength) -> ByLength:
    """Check a function once, so that no forward pass has to."""
    lengths = _lengths()
    temperatures = function(lengths)
    if not isinstance(temperatures, torch.Tensor) or temperatures.shape != lengths.shape:
        returned = tuple(temperatures.shape) if isinstance(temperatures, torch.Tensor) else type(temperatures).__name__
        raise ValueError(
            f"the temperature function {function!r} must return a tensor with one temperature for each length, "
            f"not {returned} for {len(lengths)} lengths"
        )
    wrong = ~((temperatures >= LEAST) & (temperatures <= 1 / LEAST))
    if wrong.any():
        index = int(wrong.nonzero()[0])
        raise ValueError(
            f"the temperature function {function!r} gives {temperatures[index].item():g} for {index + 1} tokens: "
            f"temperatures must be from {LEAST:g} to {1 / LEAST:g}"
        )
    return function


def _lengths() -> torch.Tensor:
    """Return the token counts for which a function is checked, and hashed."""
    return torch.arange(1, 8193)
