"""Which layers get a temperature: what a caller writes, the label it is stored under, and the indices in a model."""

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

# An index, a slice, the name of an attention module, text such as "last:3", or several of the first three.
Layers = int | slice | str | Iterable[int | slice | str]
RepeatableLayers = int | slice | str | Sequence[int | slice | str] | None


def repeatable(layers: Any) -> RepeatableLayers:
    """Return a choice of layers that can be read more than once: as text, a slice, an integer, or a list of these.

    Args:
        layers: choice, whose integers and booleans may be NumPy's or torch's; booleans are a mask over all layers.

    Raises:
        ValueError: what names no layer, a mapping, or booleans beside others.

    >>> import torch
    >>> repeatable(layer for layer in (0, 2)), repeatable(torch.tensor([True, False, True]))
    ([0, 2], [True, False, True])
    """
    if layers is None or isinstance(layers, (str, slice)):
        return layers
    if isinstance(layers, Mapping):
        raise ValueError(f"layers {layers!r} would lose its values: use PerLayer({{...}}) as the temperature")
    if not isinstance(layers, Iterable) or getattr(layers, "shape", None) == ():
        return _index(layers)
    several = [one if isinstance(one, (str, slice)) else _index(one) for one in layers]
    mask = [isinstance(one, bool) for one in several]
    if any(mask) and not all(mask):
        raise ValueError(f"layers {several} are booleans and others: name layers, or mark every one by a boolean")
    return several


def _index(layer: Any) -> int:
    """Return an integer, or an element of a mask, as Python's own."""
    if isinstance(layer, bool) or str(getattr(layer, "dtype", "")) in ("bool", "torch.bool"):
        return bool(layer)
    try:
        return operator.index(layer)
    except TypeError:
        raise ValueError(
            f"unknown layer {layer!r}: expected an index, a slice, a name, or text such as last:3"
        ) from None


def select_layers(layers: RepeatableLayers, names: list[str]) -> list[int]:
    """Return the indices of the chosen layers, in the model's order.

    Args:
        layers: choice; None for all.
        names: names of the model's attention modules.

    Raises:
        ValueError: a layer that the model has not, or no layer.

    >>> select_layers("last:2", ["a", "b", "c"]), select_layers(["c", 0], ["a", "b", "c"])
    ([1, 2], [0, 2])
    """
    everything, chosen = list(range(len(names))), set()
    if _is_mask(layers) and len(layers) != len(names):
        raise ValueError(f"layers are a mask of {len(layers)}, but the model has {len(names)} attention layers")
    for layer in [layers] if isinstance(layers, str) and layers in names else _several(layers):
        if isinstance(layer, slice):
            found = everything[layer]
        elif isinstance(layer, str):
            found = [names.index(layer)] if layer in names else []
        else:
            found = [everything[layer]] if -len(names) <= layer < len(names) else []
        if not found:
            shown = layers if isinstance(layers, str) else layer
            raise ValueError(
                f"unknown layer {shown!r}: expected 0 to {len(names) - 1}, first:n, last:n, or a name from {names[0]!r} to "
                f"{names[-1]!r}"
            )
        chosen.update(found)
    if not chosen:
        raise ValueError("no layer chosen: leave out `layers` for all of them")
    return sorted(chosen)


def layers_label(layers: RepeatableLayers) -> str:
    """Return the label of a choice of layers, a key of stored results.

    Args:
        layers: None or "all"; "last:3" or "first:3"; indices as in "0,1,-1"; or what `patch` takes, but one name alone.

    Raises:
        ValueError: text of another form.

    >>> layers_label("last:3"), layers_label("2,0"), layers_label([2, 0]), layers_label(None)
    ('last:3', '0,2', '0,2', 'all')
    """
    each = _several(layers)
    if layers is None or layers == "all":
        return "all"
    if isinstance(layers, str):
        if each == [layers]:
            raise ValueError(f"cannot read layers {layers!r}: expected all, last:3, first:3, or indices such as 0,1,-1")
        if ":" in layers:
            return layers
    return ",".join(sorted({_slice_label(one) if isinstance(one, slice) else str(one) for one in each}))


def _several(layers: RepeatableLayers) -> Sequence[int | slice | str]:
    """Return each of the layers that a caller wrote; text that is none of the known forms may be a name."""
    if layers is None or layers == "all":
        return [slice(None)]
    if isinstance(layers, (int, slice)):
        return [layers]
    if _is_mask(layers):
        return [index for index, chosen in enumerate(layers) if chosen]
    if not isinstance(layers, str):
        return layers
    end = re.fullmatch(r"(first|last):([1-9]\d*)", layers)
    if end:
        count = int(end[2])
        # Indices and no slice, which would take more layers than there are without a word.
        return range(-count, 0) if end[1] == "last" else range(count)
    return [int(index) for index in layers.split(",")] if re.fullmatch(r"-?\d+(,-?\d+)*", layers) else [layers]


def _is_mask(layers: RepeatableLayers) -> TypeGuard[Sequence[bool]]:
    return isinstance(layers, Sequence) and not isinstance(layers, str) and any(isinstance(one, bool) for one in layers)


def _slice_label(layers: slice) -> str:
    return ":".join("" if part is None else str(part) for part in (layers.start, layers.stop, layers.step))
