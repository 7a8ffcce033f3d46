"""TempScale: divide the attention logits of a model by a temperature, at inference, without training."""

import re
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from torch import nn

from tempscale.patching.exchange import LengthAware, Patched, Tempered, exchange, restore
from tempscale.patching.proof import find_sites
from tempscale.patching.recorder import find_transformer
from tempscale.patching.schedules import Layered, Schedule, check_temperature
from tempscale.patching.sources import Site

# The key of a configuration that says that a temperature is in the weights.
FOLDED = "tempscale_temperature"

Layers = int | slice | str | Iterable[int | slice | str]


class Patch:
    """A temperature that is active in a model until it is removed. Made by `patch`; usable as a context manager.

    The temperature lives in the modules themselves: a copy or a pickle of a patched model is patched, too.
    """

    def __init__(self, transformer: nn.Module, temperature: Schedule, layers: Layers | None) -> None:
        self._transformer: Any = transformer
        self._layers = None if layers is None else [layers] if isinstance(layers, (int, slice, str)) else list(layers)
        self._found: dict[str, tuple[int, list[Site]]] = {}
        self._kind = ""
        self._temperature: Schedule = 1.0
        self._active = True
        self.temperature = temperature

    @property
    def sites(self) -> tuple[Site, ...]:
        """The attention modules that have the temperature, in the order of the forward pass."""
        return tuple(self._found[self._kind][1])

    @property
    def temperature(self) -> Schedule:
        """The temperature; may be set while the patch is active.

        That costs nothing, unless it is the first that differs between layers, or between lengths: then the sites of such
        temperatures are looked for and proved.
        """
        return self._temperature

    @temperature.setter
    def temperature(self, temperature: Schedule) -> None:
        checked = temperature if isinstance(temperature, Layered) else check_temperature(temperature)
        if not self._active:
            raise RuntimeError(f"temperature {temperature} set on a patch that was removed: patch the model again")
        kind = kind_of(checked)
        if kind != self._kind:
            self._change(kind, checked)
        else:
            self._set(checked)
        self._temperature = checked

    def _change(self, kind: str, temperature: Schedule) -> None:
        """Go over to another kind of temperature, or stay as it was if that fails."""
        before, self._kind = self._kind, kind
        if before:
            self._restore(before)
        try:
            if kind not in self._found:
                self._found[kind] = self._find(kind)
            self._set(temperature)
        except BaseException:
            self._kind = before
            if before:
                self._set(self._temperature)
            raise

    def _find(self, kind: str) -> tuple[int, list[Site]]:
        """Return the number of attention layers and the chosen sites."""
        counts = []

        def select(names: list[str]) -> list[int]:
            counts.append(len(names))
            return _select(names, self._layers)

        sites = find_sites(self._transformer, kind, select)
        return counts[0], sites

    def _set(self, temperature: Schedule) -> None:
        layers, sites = self._found[self._kind]
        each = temperature.of(layers) if isinstance(temperature, Layered) else [temperature] * layers
        for site in sites:
            site.set(each[site.layer])
        exchange(self._transformer, LengthAware if self._kind == "per sequence" else Patched)
        self._transformer.tempscale_patch = self

    def _restore(self, kind: str) -> None:
        for site in self._found[kind][1]:
            site.restore()
        restore(self._transformer)
        vars(self._transformer).pop("tempscale_patch", None)

    def remove(self) -> None:
        """Restore the model bit for bit. Removing twice is the same as removing once."""
        if self._active:
            self._restore(self._kind)
            self._active = False

    def __enter__(self) -> Self:
        """Return the patch, which is active already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the patch, also after an exception."""
        self.remove()

    def __repr__(self) -> str:
        """Show the temperature, the number of sites and whether they are active."""
        state = "active" if self._active else "removed"
        return f"Patch(temperature={self._temperature}, sites={len(self.sites)}, {state})"


def patch(model: nn.Module, temperature: Schedule, *, layers: Layers | None = None) -> Patch:
    """Divide every attention logit of a model by a temperature: softmax(S / temperature).

    S is the complete logit, the attention mask excepted. Active at once. Below 1 attention gets sharper, above 1 more
    uniform; at 1 the model is bit-identical to the unpatched one. The sites are proved on a small padded batch before the
    model is changed: every logit must be, to the last bit, what it is when divided inside softmax. So a patch without
    effect, or with half of it, cannot go unnoticed.

    Args:
        model: a transformers model, or any module around one, such as a SentenceTransformer.
        temperature: finite and positive; or a schedule: `PerLayer`, `LogLength`, `LengthRule`, `RateMatched`, or any
            function from token counts (batch,) to temperatures (batch,).
        layers: all by default; an index (negative counts from the end), a slice, a name from `Patch.sites`, or several.

    Returns:
        The active patch, with `.remove()`, `.temperature` (readable, settable), `.sites`; a context manager.

    Raises:
        ValueError: a temperature that is not finite and positive, an unknown layer, or a model patched or folded already.
        UnsupportedModelError: the model has no proved temperature site.
        TypeError: not a torch module.

    Source: TempScale, arXiv 2410.24200.

    >>> from transformers import BertConfig, BertModel
    >>> model = BertModel(BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    ...                              intermediate_size=32))
    >>> with patch(model, 0.8, layers=-1) as active:
    ...     active
    Patch(temperature=0.8, sites=1, active)
    """
    transformer = unpatched(model)
    return Patch(transformer, temperature, layers)


def unpatched(model: nn.Module) -> Any:
    """Return the transformers model inside a module, or raise ValueError if it has a temperature already."""
    transformer = find_transformer(model)
    if any(isinstance(module, Tempered) for module in transformer.modules()):
        raise ValueError(
            f"{type(transformer).__name__} is patched already: set `.temperature` of its patch, or `.remove()` that one "
            "first; a copy has its own as `.tempscale_patch`"
        )
    folded = getattr(transformer.config, FOLDED, None)
    if folded is not None:
        raise ValueError(
            f"{type(transformer).__name__} has the temperature {folded} folded into its weights: load the original model"
        )
    return transformer


def kind_of(temperature: Schedule) -> str:
    """Return what a temperature depends on."""
    if not isinstance(temperature, Layered):
        return "per sequence" if callable(temperature) else "uniform"
    return "per sequence" if temperature.by_length else "per layer"


def _select(names: list[str], wanted: list[int | slice | str] | None) -> list[int]:
    """Return the indices of the chosen layers, in the model's order."""
    if wanted is None:
        return list(range(len(names)))
    chosen: set[int] = set()
    for layer in wanted:
        if isinstance(layer, slice):
            found = list(range(len(names)))[layer]
        elif isinstance(layer, str):
            found = [names.index(layer)] if layer in names else []
        else:
            found = [layer % len(names)] if -len(names) <= layer < len(names) else []
        if not found:
            raise ValueError(
                f"unknown layer {layer!r}: expected 0 to {len(names) - 1}, or a name from {names[0]!r} to {names[-1]!r}"
            )
        chosen.update(found)
    if not chosen:
        raise ValueError("no layer chosen: leave out `layers` for all of them")
    return sorted(chosen)


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
