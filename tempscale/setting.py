"""What is varied between runs, as labels: two settings have the same label only if they are the same setting."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import torch

from tempscale.patch import Layers
from tempscale.schedules import ByLength, Layered, LengthRule, LogLength, PerLayer, Schedule, check_temperature

PLAIN = "1.0"  # the temperature that changes nothing
APPLY_TO = ("both", "document", "query")


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
    if isinstance(temperature, PerLayer):
        of = temperature.temperatures
        if isinstance(of, Mapping):
            return f"PerLayer({{{', '.join(f'{layer}: {temperature_label(of[layer])}' for layer in sorted(of))}}})"
        return f"PerLayer([{', '.join(map(temperature_label, of))}])"
    if isinstance(temperature, Layered):
        return str(temperature)
    checked = check_temperature(temperature)
    if isinstance(checked, float):
        return repr(checked)
    return repr(checked) if type(checked) in (LogLength, LengthRule) else _function_label(checked)


def _function_label(function: ByLength) -> str:
    """Name a function after itself and what it returns: an edited function is another setting."""
    name = getattr(function, "__name__", type(function).__name__)
    values = function(torch.arange(1, 8193)).double().numpy().tobytes()
    return f"{name}#{hashlib.sha256(values).hexdigest()[:8]}"


def layers_setting(layers: Layers | None) -> tuple[str, Layers | None]:
    """Return the label of a choice of layers, and what `patch` takes for it.

    Args:
        layers: None or "all"; "last:3" or "first:3"; indices as in "0,1,-1"; or what `patch` takes.

    Raises:
        ValueError: text of another form.

    >>> layers_setting("last:3"), layers_setting([2, 0]), layers_setting(None)
    (('last:3', [-3, -2, -1]), ('0,2', [0, 2]), ('all', None))
    """
    if layers is None or layers == "all":
        return "all", None
    if isinstance(layers, str):
        end = re.fullmatch(r"(first|last):([1-9]\d*)", layers)
        if end:
            count = int(end[2])
            # Indices and no slice, which would take more layers than there are without a word.
            return layers, list(range(-count, 0) if end[1] == "last" else range(count))
        if not re.fullmatch(r"-?\d+(,-?\d+)*", layers):
            raise ValueError(f"cannot read layers {layers!r}: expected all, last:3, first:3, or indices such as 0,1,-1")
        layers = [int(index) for index in layers.split(",")]
    each = [layers] if isinstance(layers, (int, slice)) else list(layers)
    unique: dict[str, Any] = {_slice_label(one) if isinstance(one, slice) else str(one): one for one in each}
    chosen = dict(sorted(unique.items()))
    return ",".join(chosen), list(chosen.values())


def _slice_label(layers: slice) -> str:
    return ":".join("" if part is None else str(part) for part in (layers.start, layers.stop, layers.step))


def check_apply_to(apply_to: str) -> str:
    """Return the side that a temperature applies to, or raise ValueError."""
    if apply_to not in APPLY_TO:
        raise ValueError(f"unknown apply_to {apply_to!r}: expected one of {', '.join(APPLY_TO)}")
    return apply_to


def is_plain(label: str) -> bool:
    """Whether a label is that of the model as it is."""
    return label == PLAIN
