"""Which layers get a temperature: what a caller writes, the label it is stored under, and the indices in a model."""

import re
from collections.abc import Iterable, Sequence

# An index, a slice, the name of an attention module, text such as "last:3", or several of the first three.
Layers = int | slice | str | Iterable[int | slice | str]
RepeatableLayers = int | slice | str | Sequence[int | slice | str] | None


def repeatable(layers: Layers | None) -> RepeatableLayers:
    """Return a choice of layers that can be read more than once.

    >>> repeatable(layer for layer in (0, 2))
    [0, 2]
    """
    return layers if layers is None or isinstance(layers, (int, slice, str)) else list(layers)


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
    if not isinstance(layers, str):
        return layers
    end = re.fullmatch(r"(first|last):([1-9]\d*)", layers)
    if end:
        count = int(end[2])
        # Indices and no slice, which would take more layers than there are without a word.
        return range(-count, 0) if end[1] == "last" else range(count)
    return [int(index) for index in layers.split(",")] if re.fullmatch(r"-?\d+(,-?\d+)*", layers) else [layers]


def _slice_label(layers: slice) -> str:
    return ":".join("" if part is None else str(part) for part in (layers.start, layers.stop, layers.step))
