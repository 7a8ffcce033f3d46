"""Prove that the sources of a model's logits are complete, before a temperature is put there.

A small padded batch is run in eager attention while every softmax is recorded. The proof temperatures are powers of two, by
which floating-point numbers are divided without rounding: so with the sources divided, every logit must be, to the last bit,
what it is when the logits themselves are divided. A missing bias, a second softmax that is no attention, an attention sink,
a normalisation that undoes the factor all show. A second run checks that the model's own backend computes the same.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from tempscale.recorder import Recorder, Run, UnsupportedModelError, find_transformer, probing
from tempscale.sites import Site, Source, others, uniform
from tempscale.tempered import LengthAware, Temperature, beside, exchange, restore

# Masks are minus 10 000 or below, and softmax weights of minus 1 000 are zero.
_MASKED = -1000.0


def find_sites(model: nn.Module, kind: str, select: Callable[[list[str]], list[int]]) -> list[Site]:
    """Return proved sites, in the order in which the forward pass meets them. The model is left as it was.

    Args:
        model: a transformers model, or any module around one (such as a SentenceTransformer).
        kind: of temperature: "uniform", "per layer" or "per sequence".
        select: from the names of all attention modules to the indices of those that get a temperature.

    Raises:
        UnsupportedModelError: no transformers model inside, no softmax attention, or no sources that pass the proof. The
            message names the class and what can be done.
    """
    transformer = find_transformer(model)
    recorder = Recorder(transformer)
    with probing(transformer, "eager"):
        plain = recorder.run()
    modules = list(plain.logits)
    if not modules:
        raise UnsupportedModelError(
            f"no temperature site in {type(transformer).__name__}: its forward pass has no softmax attention; "
            "use a model with softmax attention"
        )
    names = {module: name for name, module in transformer.named_modules()}
    chosen = select([names[module] for module in modules])

    def first_proved(candidates: Iterator[list[Sequence[Source]]], kind: str, layers: list[int]) -> list[Site]:
        for sources in candidates:
            sites = [Site(names[modules[layer]], layer, modules[layer], sources[layer]) for layer in layers]
            failure = prove(recorder, plain, sites, kind)
            if failure is None:
                return sites
        raise UnsupportedModelError(
            f"no {kind} temperature site in {type(transformer).__name__}: {failure}; supported is attention whose softmax "
            "sees logits proportional to its queries or to a scale attribute, with any tables of position biases"
        )

    # Inside softmax anything can be divided, also what is no attention (a gate, an attention sink). Therefore a uniform
    # temperature comes first: it shows that all logits are proportional to known sources.
    sites = first_proved(uniform(transformer, modules), "uniform", list(range(len(modules))))
    if kind == "uniform" and len(chosen) == len(modules) and not _overflows(transformer):
        return sites
    return first_proved(others(transformer, modules, kind, _overflows(transformer)), kind, chosen)


def _overflows(transformer: nn.Module) -> bool:
    """Whether eager masks, the smallest float16, plus larger logits can be minus infinity, and a fully masked row NaN."""
    eager = not _own_implementation(transformer)
    return eager and next(transformer.parameters()).dtype is torch.float16


def prove(recorder: Recorder, plain: Run, sites: list[Site], kind: str, rounding: float = 0.0) -> str | None:
    """Return what is wrong with some sites, or None; logits may be off by `rounding` of the largest."""
    for site in sites:
        if not site.sources:
            return f"{_class(site)} calls softmax but has neither a known scale attribute nor known queries"
    transformer = recorder.transformer
    temperatures = {site.module: _proof_temperature(kind, index) for index, site in enumerate(sites)}
    rows = {module: _on(recorder.batch, temperature) for module, temperature in temperatures.items()}
    try:
        with probing(transformer, "eager"):
            oracle = recorder.run(rows)
        exchange(transformer, LengthAware)
        for site in sites:
            site.set(temperatures[site.module])
        with probing(transformer, "eager"):
            run = recorder.run()
        failure = _compare_logits(sites, oracle, run, rows, rounding)
        if failure or not _own_implementation(transformer):
            return failure
        with probing(transformer):
            own = recorder.run()
    except UnsupportedModelError as error:
        return str(error.__cause__ or error)
    finally:
        for site in sites:
            site.restore()
        restore(transformer)
    with probing(transformer):
        _compare_outputs(sites, plain, oracle, recorder.run(), own)
    return None


def _proof_temperature(kind: str, index: int) -> Temperature:
    """Return powers of two that differ wherever a kind of temperature may differ."""
    return _by_length if kind == "per sequence" else 0.5 if kind == "per layer" and index % 2 else 0.25


def _by_length(lengths: torch.Tensor) -> torch.Tensor:
    """Return 1/4 for the longest sequences and 1/2 for the others."""
    return torch.where(lengths == lengths.amax(), 0.25, 0.5)


def _on(batch: dict[str, torch.Tensor], temperature: Temperature) -> float | torch.Tensor:
    """Return the temperature of a batch: one number, or one for each sequence."""
    return temperature if isinstance(temperature, float) else temperature(batch["attention_mask"].sum(-1))


def _compare_logits(
    sites: list[Site], oracle: Run, run: Run, temperatures: dict[nn.Module, float | torch.Tensor], rounding: float
) -> str | None:
    """Return where the logits of a run differ from those of the oracle, divided, or None."""
    by_module = {site.module: site for site in sites}
    for module, calls in oracle.logits.items():
        temperature = temperatures.get(module, 1.0)
        for before, after in zip(calls, run.logits.get(module, []), strict=True):
            expected = (_relative(before) / beside(temperature, before)).clamp(min=_MASKED)
            actual = _relative(after).clamp(min=_MASKED)
            error, size = (actual - expected).abs().max().item(), expected[expected > _MASKED].abs().max().item()
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


def _compare_outputs(sites: list[Site], plain: Run, oracle: Run, own_plain: Run, own: Run) -> None:
    """Raise UnsupportedModelError if attention in the model's own implementation does not do what the oracle does."""
    # The first of a class speaks for the others, whose inputs differ by the accumulated rounding of the layers before.
    for site in {type(site.module): site for site in reversed(sites)}.values():
        runs = (run.outputs[site.module] for run in (plain, oracle, own_plain, own))
        for before, expected, own_before, actual in zip(*runs, strict=True):
            effect, rounding, error = (
                (a - b).abs().max().item() for a, b in ((expected, before), (own_before, before), (actual, expected))
            )
            # Without effect error would equal effect; a right one differs by rounding, like two backends of one model.
            if not error <= max(0.02 * effect, 4 * rounding) or effect <= 8 * rounding:
                raise UnsupportedModelError(
                    f"no temperature site in {_class(site)} with its own attention implementation: its output is off by "
                    f"{error:.2g} where a temperature moves it by {effect:.2g} and the choice of the implementation by "
                    f"{rounding:.2g}; load the model with attn_implementation='eager', in float32"
                )


def _class(site: Site) -> str:
    return f"{type(site.module).__name__} ({site.name})"
