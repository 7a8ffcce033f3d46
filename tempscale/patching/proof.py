"""Prove that the sources of a model's logits are complete, before a temperature is put there.

A small padded batch is run in eager attention while every softmax is recorded. The proof temperatures are powers of two, by
which floating-point numbers are divided without rounding: so with the sources divided, every logit must be, to the last bit,
what it is when the logits themselves are divided. A missing bias, a second softmax that is no attention, an attention sink,
a normalisation that undoes the factor all show. A second run checks that the model's own backend computes the same.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tempscale.patching.exchange import LengthAware, Temperature, broadcast_against, exchange, restore
from tempscale.patching.layers import RepeatableLayers, select_layers
from tempscale.patching.recorder import Recorder, Recording, UnsupportedModelError
from tempscale.patching.schedules import Kind
from tempscale.patching.sources import Candidate, Site, candidates_for, uniform_candidates

# Masks are minus 10 000 or below, and softmax weights of minus 1 000 are zero.
_MASKED = -1000.0


def find_sites(transformer: Any, kind: Kind, layers: RepeatableLayers = None) -> tuple[list[Site], int]:
    """Return proved sites, in the order of the forward pass, and the number of attention layers; the model stays as it was.

    Args:
        transformer: transformers model without a temperature.
        kind: kind of temperature.
        layers: layers that get it; all by default.

    Raises:
        ValueError: an unknown layer.
        UnsupportedModelError: no softmax attention, or no sources that pass the proof. The message names the class and what
            can be done.
    """
    recorder = Recorder(transformer)
    modules = list(recorder.plain.logits)
    if not modules:
        raise UnsupportedModelError(
            f"no temperature site in {type(transformer).__name__}: its forward pass has no softmax attention; "
            "use a model with softmax attention"
        )
    module_names = {module: name for name, module in transformer.named_modules()}
    names = [module_names[module] for module in modules]
    everywhere, chosen = list(range(len(modules))), select_layers(layers, names)

    def first_proved(
        candidates: Iterator[Candidate], kind: Kind, where: list[int], eager_only: bool = False
    ) -> list[Site]:
        for sources in candidates:
            sites = [Site(names[layer], layer, modules[layer], sources[layer]) for layer in where]
            failure = prove(recorder, sites, kind, eager_only=eager_only)
            if failure is None:
                return sites
        raise UnsupportedModelError(
            f"no {kind} temperature site in {type(transformer).__name__}: {failure}; supported is attention whose softmax "
            "sees logits proportional to its queries or to a scale attribute, with any tables of position biases"
        )

    # Inside softmax anything can be divided, also what is no attention (a gate, an attention sink). Therefore a uniform
    # temperature comes first: it shows that all logits are proportional to known sources.
    overflows = _overflows(transformer)
    whole = kind == "uniform" and chosen == everywhere and not overflows
    sites = first_proved(uniform_candidates(transformer, modules), "uniform", everywhere, eager_only=not whole)
    if not whole:
        sites = first_proved(candidates_for(transformer, modules, kind, overflows), kind, chosen)
    return sites, len(modules)


def _overflows(transformer: nn.Module) -> bool:
    """Whether eager masks, the smallest float16, plus larger logits can be minus infinity, and a fully masked row NaN."""
    eager = not _own_implementation(transformer)
    return eager and next(transformer.parameters()).dtype is torch.float16


def prove(
    recorder: Recorder, sites: list[Site], kind: Kind, rounding: float = 0.0, eager_only: bool = False
) -> str | None:
    """Return what is wrong with some sites, or None.

    Args:
        recorder: recorder of the model, which has no temperature now.
        sites: all sites that get a temperature.
        kind: kind of temperature.
        rounding: largest error of the logits, as a share of the largest logit.
        eager_only: whether to leave out the model's own attention implementation.

    Raises:
        UnsupportedModelError: the sites are right, but the model's own attention implementation ignores them.
    """
    for site in sites:
        if not site.sources:
            return f"{_class(site)} calls softmax but has neither a known scale attribute nor known queries"
    transformer = recorder.transformer
    temperatures = {site.module: _proof_temperature(kind, index) for index, site in enumerate(sites)}
    rows = {module: _on(recorder.batch, temperature) for module, temperature in temperatures.items()}
    try:
        oracle = recorder.run("eager", rows)
        exchange(transformer, LengthAware)
        for site in sites:
            site.set(temperatures[site.module])
        run = recorder.run("eager")
        failure = _compare_logits(sites, oracle, run, rows, rounding)
        if failure or eager_only or not _own_implementation(transformer):
            return failure
        own = recorder.run()
    except UnsupportedModelError as error:
        return str(error.__cause__ or error)
    finally:
        for site in sites:
            site.restore()
        restore(transformer)
    _compare_outputs(recorder, sites, oracle, own)
    return None


def _proof_temperature(kind: Kind, index: int) -> Temperature:
    """Return powers of two that differ wherever a kind of temperature may differ."""
    return _by_length if kind == "per sequence" else 0.5 if kind == "per layer" and index % 2 else 0.25


def _by_length(lengths: torch.Tensor) -> torch.Tensor:
    """Return 1/4 for the longest sequences and 1/2 for the others."""
    return torch.where(lengths == lengths.amax(), 0.25, 0.5)


def _on(batch: dict[str, torch.Tensor], temperature: Temperature) -> float | torch.Tensor:
    """Return the temperature of a batch: one number, or one for each sequence."""
    return temperature if isinstance(temperature, float) else temperature(batch["attention_mask"].sum(-1))


def _compare_logits(
    sites: list[Site],
    oracle: Recording,
    run: Recording,
    temperatures: dict[nn.Module, float | torch.Tensor],
    rounding: float,
) -> str | None:
    """Return where the logits of a run differ from those of the oracle, divided, or None."""
    by_module = {site.module: site for site in sites}
    for module, calls in oracle.logits.items():
        temperature = temperatures.get(module, 1.0)
        for before, after in zip(calls, run.logits.get(module, []), strict=True):
            expected = (_relative(before) / broadcast_against(temperature, before)).clamp(min=_MASKED)
            actual = _relative(after).clamp(min=_MASKED)
            error, size = _distance(actual, expected), expected[expected > _MASKED].abs().max().item()
            # Only the subnormal numbers of float16 are not divided exactly.
            if not error <= size * (max(rounding, 1e-3) if before.dtype is torch.float16 else rounding):
                site = by_module.get(module, sites[0])
                sources = " and ".join(dict.fromkeys(source.attribute for source in site.sources))
                return (
                    f"with its {sources} divided, a softmax of {_class(site)} has logits that are off by {error:.2g} "
                    f"of {size:.2g}"
                )
    return None


def _relative(logits: torch.Tensor) -> torch.Tensor:
    """Return logits less the largest of their row, which is all that softmax sees; fully masked rows become zero."""
    logits = logits.float()
    return (logits - logits.amax(-1, keepdim=True)).nan_to_num(nan=0.0)


def _own_implementation(transformer: nn.Module) -> bool:
    """Whether the model computes attention in another way than eagerly."""
    return getattr(transformer.config, "_attn_implementation", "eager") not in (None, "eager")


def _compare_outputs(recorder: Recorder, sites: list[Site], oracle: Recording, own: Recording) -> None:
    """Raise UnsupportedModelError if attention in the model's own implementation does not do what the oracle does."""
    own_plain = Recording()
    # The first of a class speaks for the others, whose inputs differ by the accumulated rounding of the layers before.
    for site in {type(site.module): site for site in reversed(sites)}.values():
        before, expected, actual = (torch.cat(run.outputs[site.module]) for run in (recorder.plain, oracle, own))
        effect, error = _distance(expected, before), _distance(actual, expected)
        if error <= 0.02 * effect and effect > 0:
            continue  # without effect they would be equal
        if not own_plain.outputs:
            own_plain = recorder.run()
        rounding = _distance(torch.cat(own_plain.outputs[site.module]), before)
        # A right one differs by rounding, like two backends of one model.
        if not error <= 4 * rounding or effect <= 8 * rounding:
            raise UnsupportedModelError(
                f"no temperature site in {_class(site)} with its own attention implementation: its output is off by "
                f"{error:.2g} where a temperature moves it by {effect:.2g} and the choice of the implementation by "
                f"{rounding:.2g}; load the model with attn_implementation='eager', in float32"
            )


def _distance(x: torch.Tensor, y: torch.Tensor) -> float:
    return (x - y).abs().max().item()


def _class(site: Site) -> str:
    return f"{type(site.module).__name__} ({site.name})"
