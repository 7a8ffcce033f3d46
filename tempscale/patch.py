"""TempScale: divide the attention logits of a model by a temperature, at inference, without training."""

import math
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from torch import nn

from tempscale.sites import MARK, Site, find_sites

Layers = int | slice | str | Iterable[int | slice | str]


class Patch:
    """A temperature that is active in a model until it is removed. Made by `patch`; usable as a context manager."""

    def __init__(self, sites: list[Site], temperature: float) -> None:
        self.sites = tuple(sites)
        self._active = True
        self._temperature = 1.0
        self.temperature = temperature

    @property
    def temperature(self) -> float:
        """The temperature; may be set while the patch is active, at no cost."""
        return self._temperature

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        value = check_temperature(temperature)
        if not self._active:
            raise RuntimeError(f"temperature {value:g} set on a patch that was removed: patch the model again")
        for site in self.sites:
            site.set(value)
        self._temperature = value

    def remove(self) -> None:
        """Restore the model bit for bit. Removing twice is the same as removing once."""
        if self._active:
            for site in self.sites:
                site.restore()
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
        return f"Patch(temperature={self._temperature:g}, sites={len(self.sites)}, {state})"


def patch(model: nn.Module, temperature: float, *, layers: Layers | None = None) -> Patch:
    """Divide every attention logit of a model by a temperature: softmax(S / temperature).

    S is the complete logit, the attention mask excepted. Active at once. Below 1 attention gets sharper, above 1 more
    uniform; at 1 the model is bit-identical to the unpatched one. The sites are verified against an eager
    softmax(S / tau) on a small padded batch before the model is changed, so a patch without effect cannot go unnoticed.

    Args:
        model: a transformers model of the BERT family (BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, ...), or any module
            around one, such as a SentenceTransformer.
        temperature: finite and positive.
        layers: all by default; an index (negative counts from the end), a slice, a name from `Patch.sites`, or several.

    Returns:
        The active patch, with `.remove()`, `.temperature` (readable, settable), `.sites`; a context manager.

    Raises:
        ValueError: a temperature that is not finite and positive, an unknown layer, or a model patched already.
        UnsupportedModelError: the model has no verified temperature site.
        TypeError: not a torch module.

    Source: TempScale, arXiv 2410.24200.

    >>> from transformers import BertConfig, BertModel
    >>> model = BertModel(BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    ...                              intermediate_size=32))
    >>> with patch(model, 0.8, layers=-1) as active:
    ...     active
    Patch(temperature=0.8, sites=1, active)
    """
    check_temperature(temperature)
    if isinstance(model, nn.Module) and any(hasattr(module, MARK) for module in model.modules()):
        raise ValueError(
            f"{type(model).__name__} is patched already: set `.temperature` of its patch, or `.remove()` that one first"
        )
    return Patch(_select(find_sites(model), layers), temperature)


def check_temperature(temperature: float) -> float:
    """Return a valid temperature as a float, or raise ValueError."""
    number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not (number and math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite positive number, not {temperature!r}; 1 changes nothing")
    return float(temperature)


def _select(sites: list[Site], layers: Layers | None) -> list[Site]:
    """Return the sites of the chosen layers, in the model's order."""
    if layers is None:
        return sites
    names = [site.name for site in sites]
    wanted = [layers] if isinstance(layers, (int, slice, str)) else list(layers)
    chosen: set[int] = set()
    for layer in wanted:
        if isinstance(layer, slice):
            found = list(range(len(sites)))[layer]
        elif isinstance(layer, str):
            found = [names.index(layer)] if layer in names else []
        else:
            found = [layer % len(sites)] if -len(sites) <= layer < len(sites) else []
        if not found:
            raise ValueError(
                f"unknown layer {layer!r}: expected 0 to {len(sites) - 1}, or a name from {names[0]!r} to {names[-1]!r}"
            )
        chosen.update(found)
    if not chosen:
        raise ValueError("no layer chosen: leave out `layers` for all of them")
    return [sites[index] for index in sorted(chosen)]
