"""TempScale: divide the attention logits of a model by a temperature, at inference, without training."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from tempscale.patching.exchange import LengthAware, Patched, Tempered, Turns, exchange, refuse_running, restore
from tempscale.patching.layers import Layers, repeatable
from tempscale.patching.proof import find_sites
from tempscale.patching.recorder import configurations, find_transformer
from tempscale.patching.schedules import Kind, Schedule, check_schedule, kind_of, per_layer
from tempscale.patching.sources import TEMPERED, Site, restore_all

# The key of a configuration that says that a temperature is in the weights.
FOLDED = "tempscale_temperature"


class Patch:
    """A temperature that is active in a model until it is removed. Made by `patch`; usable as a context manager.

    The temperature lives in the modules themselves: a copy or a pickle of a patched model is patched, too. Where a module
    with the temperature is replaced or wrapped meanwhile, as adapters do, or the attention implementation changes, the next
    forward pass looks for the sites again. Threads may share the model: a temperature changes, and is removed, between
    forward passes.
    """

    def __init__(self, transformer: nn.Module, layers: Layers | None) -> None:
        self._transformer: Any = transformer
        self._layers = repeatable(layers)
        self._proved: dict[Kind, tuple[list[Site], int]] = {}  # sites, and the number of the model's attention layers
        self._kind: Kind | None = None  # of the temperature in the model; None before the first
        self._temperature: Schedule = 1.0
        self._removed = False
        self._turns = Turns()
        self._proved_for: Any = ([], [])  # what the proofs depend on

    @property
    def sites(self) -> tuple[Site, ...]:
        """The attention modules that have the temperature, in the order of the forward pass."""
        return () if self._kind is None else tuple(self._proved[self._kind][0])

    @property
    def temperature(self) -> Schedule:
        """The temperature; may be set while the patch is active, see `set_temperature`."""
        return self._temperature

    @temperature.setter
    def temperature(self, temperature: Schedule) -> None:
        self.set_temperature(temperature)

    def set_temperature(self, temperature: Schedule) -> None:
        """Divide the logits by this temperature from now on.

        That costs nothing, unless the temperature is the first of its kind, for this patch: one number, one that differs
        between layers, or one that differs between lengths. Then its sites are looked for and proved.

        Raises:
            ValueError, UnsupportedModelError: as `patch`; the temperature and the model are left as they were.
            RuntimeError: the patch was removed; or the forward pass of the model is running, in this thread, or before it
                was patched in another.
        """
        checked = check_schedule(temperature)
        with self._turns.change():
            if self._removed:
                raise RuntimeError(f"temperature {temperature} set on a patch that was removed: patch the model again")
            self._set(checked)

    def _set(self, checked: Schedule) -> None:
        """Find and prove the sites of a temperature, unless that was done, and put it there; else all is as it was."""
        kind, before = kind_of(checked), (self._kind, self._temperature, dict(self._proved), self._proved_for)
        if vars(self._transformer).setdefault("tempscale_patch", self) is not self:  # in one step: threads may compete
            raise _patched_already(self._transformer)
        self._restore()
        try:
            if self._kind is None:
                exchange(self._transformer, Patched)  # threads that call the model wait from now on
                refuse_running(self._transformer)
            if self._proved and not self._is_as_proved():
                self._proved = {}
            if kind not in self._proved:
                self._proved[kind] = find_sites(self._transformer, kind, self._layers)
                self._proved_for = self._structure()
            self._kind, self._temperature = kind, checked
            self._write()
        except BaseException:
            restore_all(self._transformer)  # what was written so far
            self._kind, self._temperature, self._proved, self._proved_for = before
            self._restore()
            self._write()
            raise

    def _structure(self) -> Any:
        """Return what the proofs depend on: the modules on the way to those with a temperature, and the implementations."""
        wanted = {module for sites, _ in self._proved.values() for site in sites for module in site.modules()}
        containers = {self._transformer: None}
        for name, module in self._transformer.named_modules():
            if module in wanted:
                at = self._transformer
                for key in filter(None, name.split(".")):
                    at = at._modules[key]
                    containers[at] = None
        children = [(container._modules, tuple(container._modules.items())) for container in containers]
        return children, [(config, config._attn_implementation) for config in configurations(self._transformer)]

    def _is_as_proved(self) -> bool:
        children, implementations = self._proved_for
        return all(tuple(modules.items()) == items for modules, items in children) and all(
            config._attn_implementation in ("eager", implementation)  # a proof is always in eager attention, too
            for config, implementation in implementations
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold the temperature during a forward pass, after another proof if the model has changed since the last.

        Raises:
            RuntimeError: the changed model has no proved temperature site.
        """
        if self._turns.is_mine:  # a proof runs the model
            yield
            return
        if not self._is_as_proved():
            with self._turns.change():
                self._prove_again()
        with self._turns.run():
            yield

    def _prove_again(self) -> None:
        if self._removed or self._is_as_proved():  # by another thread, meanwhile
            return
        try:
            self._set(self._temperature)
        except ValueError as error:
            raise RuntimeError(
                f"{type(self._transformer).__name__} was changed while patched, and its temperature has no place in it now "
                f"({error}): `.remove()` the patch"
            ) from error

    def _write(self) -> None:
        """Put the temperature into its sites; without one the model is not patched."""
        if self._kind is None:
            self._release()
            return
        sites, n_layers = self._proved[self._kind]
        each = per_layer(self._temperature, n_layers)
        for site in sites:
            site.set(each[site.layer])
        exchange(self._transformer, LengthAware if self._kind == "per sequence" else Patched)

    def _release(self) -> None:
        restore(self._transformer)
        vars(self._transformer).pop("tempscale_patch", None)

    def _restore(self) -> None:
        """Restore the sites bit for bit; the model stays patched, so that other threads wait."""
        for site in self.sites:
            site.restore()
        restore_all(self._transformer)  # also what was copied meanwhile

    def temperature_of(self, module: nn.Module, lengths: torch.Tensor) -> float | torch.Tensor:
        """Return the temperature of an attention module: one number, or one for each token count of `lengths` (batch,)."""
        sites, n_layers = ([], 0) if self._kind is None else self._proved[self._kind]
        for site in sites:
            if site.module is module:
                temperature = per_layer(self._temperature, n_layers)[site.layer]
                return temperature(lengths) if callable(temperature) else temperature
        return 1.0

    def remove(self) -> None:
        """Restore the model bit for bit. Removing twice is the same as removing once."""
        with self._turns.change():
            if not self._removed:
                self._restore()
                self._release()
                self._removed = True

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
        state = "removed" if self._removed else "active"
        return f"Patch(temperature={self._temperature}, sites={len(self.sites)}, {state})"


def patch(model: nn.Module, temperature: Schedule, *, layers: Layers | None = None) -> Patch:
    """Divide every attention logit of a model by a temperature: softmax(S / temperature).

    S is the complete logit, the attention mask excepted. Active at once. Below 1 attention gets sharper, above 1 more
    uniform; at 1 the model is bit-identical to the unpatched one. Attention without softmax, such as linear attention, stays
    as it is, and is no layer.

    The sites are proved before the model is changed, on a padded batch of short texts and on texts of 64 and of 4 tokens:
    every logit and every output of attention must be, to the last bit, what they are when the logits are divided inside
    softmax (`tempscale.patching.proof`), and there must be no attention that cannot be seen (`tempscale.patching.survey`).
    So a patch without effect, or with half of it, cannot go unnoticed. What cannot be proved so: code that takes another way
    for longer texts alone, after many calls, with gradients, or at some temperatures.

    Args:
        model: transformers model, or any module around one, such as a SentenceTransformer.
        temperature: number from 0.001 to 1000; or a schedule: `PerLayer`, `LogLength`, `LengthRule`, `RateMatched`, or any
            function from token counts (batch,) to temperatures (batch,).
        layers: layers that get it, all by default: an index (negative counts from the end), a slice, a name from
            `Patch.sites`, or several; or text, "all", "last:3", "first:3" or "0,-1".

    Returns:
        The active patch, with `.remove()`, `.temperature` (readable, settable), `.sites`; a context manager.

    Raises:
        ValueError: a temperature outside its range, an unknown layer, or a model patched or folded already.
        UnsupportedModelError: the model has no proved temperature site.
        TypeError: not a torch module.
        RuntimeError: the model is running, in this thread or another.

    Source: TempScale, arXiv 2410.24200.

    >>> from transformers import BertConfig, BertModel
    >>> model = BertModel(BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    ...                              intermediate_size=32))
    >>> with patch(model, 0.8, layers=-1) as active:
    ...     active
    Patch(temperature=0.8, sites=1, active)
    """
    made = Patch(unpatched(model), layers)
    made.set_temperature(temperature)
    return made


def unpatched(model: nn.Module) -> Any:
    """Return the transformers model inside a module, or raise ValueError if it, or a part of it, has a temperature."""
    transformer = find_transformer(model)
    name = type(transformer).__name__
    folded = next((found for config in configurations(transformer) if (found := getattr(config, FOLDED, None))), None)
    if folded is not None:
        raise ValueError(f"{name} has the temperature {folded} folded into its weights: load the original model")
    if isinstance(transformer, Tempered):
        raise _patched_already(transformer)
    for part, module in transformer.named_modules():
        if TEMPERED in vars(module):
            raise ValueError(
                f"{part or name} in {name} has a temperature already, by a patch or fold of a model that shares it: "
                "`.remove()` that patch first, or load the original model"
            )
    return transformer


def _patched_already(transformer: nn.Module) -> ValueError:
    return ValueError(
        f"{type(transformer).__name__} is patched already: set `.temperature` of its patch, or `.remove()` that one first; "
        "a copy has its own as `.tempscale_patch`"
    )
