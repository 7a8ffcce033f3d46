"""Prove that the sources of a model's logits are complete, before a temperature is put there.

A small padded batch, a long text and a very short one are run while every softmax and every call of torch's attention is
recorded: in eager attention, and in the model's own. The proof temperatures are powers of four: floating-point numbers are
divided by them, and by their roots, without rounding. So with the sources divided, every logit and every output must be, to
the last bit, what it is when the logits themselves are divided. A missing bias, a second softmax that is no attention, an
attention sink, a normalisation that undoes the factor, a gate made from the queries all show.

Kernels that do not repeat themselves, or sum in another order for other factors, break the equality without any fault. So
where it fails on an accelerator or in half precision, the same runs are made in float32 on the CPU; there it must hold, and
on the device up to rounding.
"""

import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

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
        failures = []
        for sources in candidates:
            sites = [Site(names[layer], layer, modules[layer], sources[layer]) for layer in where]
            failure = prove(recorder, sites, kind, eager_only=eager_only)
            if failure is None:
                return sites
            failures.append((not all(site.sources for site in sites), failure))
        _, failure = min(failures, key=operator.itemgetter(0))  # of sources that were tried, if there were any
        bound = next((name for name, module in transformer.named_modules() if "forward" in vars(module)), None)
        if any(getattr(module, "sinks", None) is not None for module in modules):
            failure = f"its attention has sinks, logits that no query makes ({failure})"
        raise UnsupportedModelError(
            f"no {kind} temperature site in {type(transformer).__name__}: {failure}; "
            + (
                "supported is attention whose softmax sees logits proportional to its queries or to a scale attribute, with "
                "any tables of position biases"
                if bound is None
                else f"{bound or type(transformer).__name__} has a forward of its own, put there by torch.compile or a hook "
                "such as accelerate's, past which no class can be exchanged: patch first, and wrap then"
            )
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
        rounding: largest error of the logits and outputs, as a share of the largest.
        eager_only: whether to leave out the model's own attention implementation.

    Raises:
        UnsupportedModelError: the sites are right, but the model's own attention implementation ignores them.
    """
    for site in sites:
        if not site.sources:
            return f"{_class(site)} calls softmax but has neither a known scale attribute nor known queries"
    transformer: Any = recorder.transformer
    own = not eager_only and _own_implementation(transformer)
    implementations = ["eager", str(transformer.config._attn_implementation)] if own else ["eager"]
    try:
        here = _runs(recorder, sites, kind, implementations)
        failure = _mismatch(sites, here, rounding)
        if failure and not recorder.is_exact:
            failure = _exact_mismatch(recorder, sites, kind, rounding, here, failure)
    except UnsupportedModelError as error:
        return str(error.__cause__ or error)
    if own and not failure:
        _compare_unseen(recorder, sites, here)
    return failure


class _Seen(NamedTuple):
    """Logits, without masked ones and with the temperature, or the output of an attention module."""

    module: nn.Module
    what: str
    value: torch.Tensor


class _Runs(NamedTuple):
    """What is seen in an attention implementation with the logits divided inside softmax, and with the sources divided."""

    implementation: str
    oracle: list[_Seen]
    divided: list[_Seen]
    outputs: tuple[Mapping[nn.Module, list[torch.Tensor]], Mapping[nn.Module, list[torch.Tensor]]]


def _runs(recorder: Recorder, sites: list[Site], kind: Kind, implementations: list[str]) -> list[_Runs]:
    """Run the model both ways in each implementation; afterwards it is as it was."""
    transformer, batches = recorder.transformer, recorder.batches
    temperatures = [
        {site.module: _proof_temperature(kind, index, number) for index, site in enumerate(sites)}
        for number in range(len(batches))
    ]
    rows = [
        {module: _on(batch, one) for module, one in each.items()}
        for batch, each in zip(batches, temperatures, strict=True)
    ]
    which = [(implementation, batch) for implementation in implementations for batch in range(len(batches))]
    oracles = [_oracle(recorder, implementation, rows[batch], batch) for implementation, batch in which]
    divided, before = (
        [],
        getattr(type(transformer), "_tempscale_mixin", None),
    )  # of a patch that gets another temperature
    try:
        exchange(transformer, LengthAware)
        for implementation, batch in which:
            for site in sites:
                site.set(temperatures[batch][site.module])
            divided.append(recorder.run(implementation, batch=batch))
    finally:
        for site in sites:
            site.restore()
        if before is None:
            restore(transformer)
        else:
            exchange(transformer, before)
    return [
        _Runs(name, list(_seen(oracle, rows[batch])), list(_seen(run, {})), (oracle.outputs, run.outputs))
        for (name, batch), oracle, run in zip(which, oracles, divided, strict=True)
    ]


def _oracle(
    recorder: Recorder, implementation: str, temperatures: Mapping[nn.Module, float | torch.Tensor], batch: int
) -> Recording:
    """Run the model with the logits divided inside softmax.

    Raises:
        UnsupportedModelError: where texts have temperatures of their own, the output of a text is not that of a run in which
            all have its temperature.
    """
    found = recorder.run(implementation, temperatures, batch)
    by_text = {module: one for module, one in temperatures.items() if isinstance(one, torch.Tensor)}
    numbers = sorted({number for one in by_text.values() for number in one.tolist()})
    if len(numbers) < 2:
        return found
    low, high = (
        recorder.run(implementation, {**temperatures, **dict.fromkeys(by_text, number)}, batch).outputs
        for number in numbers
    )
    text = recorder.batches[batch]["attention_mask"].nonzero()[:, 0]  # of each real token
    for module, temperature in by_text.items():
        is_low = temperature[text] == numbers[0]
        for output, cold, hot in zip(found.outputs[module], low[module], high[module], strict=True):
            if len(output) == len(text):
                mask = is_low.to(output.device).view(-1, *[1] * (output.ndim - 1))
                error, effect = (output - torch.where(mask, cold, hot)).norm(), (cold - hot).norm()
                # Experts that compute for several texts at once round as these fall.
                if error > 0.1 * effect:
                    raise UnsupportedModelError(
                        f"{type(module).__name__} keeps its texts in another order than the batch, so a temperature by "
                        "length would reach others"
                    )
    return found


def _proof_temperature(kind: Kind, site: int, batch: int) -> Temperature:
    """Return powers of four that differ wherever a kind of temperature may differ, and from batch to batch."""
    if kind == "per sequence":
        return _by_length
    return 0.25 if (batch + (site if kind == "per layer" else 0)) % 2 == 0 else 4.0


def _by_length(lengths: torch.Tensor) -> torch.Tensor:
    """Return 1/4 for the longest sequences and 4 for the others."""
    return torch.where(lengths == lengths.amax(), 0.25, 4.0)


def _on(batch: dict[str, torch.Tensor], temperature: Temperature) -> float | torch.Tensor:
    """Return the temperature of a batch: one number, or one for each sequence."""
    return temperature if isinstance(temperature, float) else temperature(batch["attention_mask"].sum(-1))


def _seen(recording: Recording, temperatures: Mapping[nn.Module, float | torch.Tensor]) -> Iterator[_Seen]:
    """Yield what the attention modules saw and did, with logits that were not yet divided."""
    for module, calls in recording.logits.items():
        temperature = temperatures.get(module, 1.0)
        for call in calls:
            # What softmax sees of a row of logits is how far they are below the largest; fully masked rows become zero.
            logits = call.float()
            logits = (logits - logits.amax(-1, keepdim=True)).nan_to_num(nan=0.0)
            yield _Seen(module, "logits", (logits / broadcast_against(temperature, logits)).clamp(min=_MASKED))
        for output in recording.outputs[module]:
            yield _Seen(module, "output", output)


def _mismatch(sites: list[Site], runs: list[_Runs], rounding: float) -> str | None:
    """Return the first of what is seen that is not what the oracle says, or None."""
    for implementation, oracle, divided, _ in runs:
        if [seen.module for seen in oracle] != [seen.module for seen in divided]:
            return f"{_class(sites[0])} calls softmax more or less often with a temperature"
        for expected, actual in zip(oracle, divided, strict=True):
            error, size = _distance(actual.value, expected.value), _size(expected.value)
            if not error <= rounding * size:
                return _off_by(sites, expected, error, size, f"{implementation} attention")
    return None


def _exact_mismatch(
    recorder: Recorder, sites: list[Site], kind: Kind, rounding: float, here: list[_Runs], failure: str
) -> str | None:
    """Return what is wrong in float32 on the CPU, or beyond rounding where the model is; or None.

    A model that cannot be run there, since its weights are quantized or elsewhere, keeps the failure that it has.
    """
    device, dtype = recorder.device_and_dtype
    try:
        with recorder.in_float32_on_the_cpu():
            exact = _runs(recorder, sites, kind, list(dict.fromkeys(runs.implementation for runs in here)))
    except (RuntimeError, UnsupportedModelError):
        return failure
    wrong = _mismatch(sites, exact, rounding)
    if wrong:
        return wrong
    # The oracle is right also here, so its difference is what rounding does.
    for there, runs in zip(exact, here, strict=True):
        for right, oracle, actual in zip(there.oracle, runs.oracle, runs.divided, strict=True):
            error, size = _distance(actual.value, right.value), _size(right.value)
            noise = _distance(oracle.value, right.value) + torch.finfo(dtype).eps * size
            overflows = noise != noise  # the oracle itself does, where the CPU does not
            if not (error <= 8 * noise or overflows):
                return _off_by(sites, right, error, size, f"{runs.implementation} attention on {device} in {dtype}")
    return None


def _off_by(sites: list[Site], seen: _Seen, error: float, size: float, where: str) -> str:
    site = next((site for site in sites if site.module is seen.module), sites[0])
    sources = " and ".join(dict.fromkeys(source.attribute for source in site.sources))
    what = f"a softmax of {_class(site)} has logits that are" if seen.what == "logits" else f"{_class(site)} has output"
    return f"with its {sources} divided, {what} off by {error:.2g} of {size:.2g} in {where}"


def _own_implementation(transformer: nn.Module) -> bool:
    """Whether the model computes attention in another way than eagerly."""
    return getattr(transformer.config, "_attn_implementation", "eager") not in (None, "eager")


def _compare_unseen(recorder: Recorder, sites: list[Site], here: list[_Runs]) -> None:
    """Raise UnsupportedModelError where attention in the model's own kernels, which show no logits, is not the oracle's."""
    oracle, own = here[0].outputs[0], here[len(recorder.batches)].outputs[1]  # of the padded batch
    seen = {one.module for one in here[-1].oracle}
    unseen = [site for site in sites if site.module not in seen]
    own_plain = Recording()
    # The first of a class speaks for the others, whose inputs differ by the accumulated rounding of the layers before.
    for site in {type(site.module): site for site in reversed(unseen)}.values():
        before, expected, actual = (torch.cat(run[site.module]) for run in (recorder.plain.outputs, oracle, own))
        effect, error = _distance(expected, before), _distance(actual, expected)
        if error <= 0.02 * effect and effect > 0:
            continue  # without effect they would be equal
        if not own_plain.outputs:
            own_plain = recorder.run()
        rounding = _distance(torch.cat(own_plain.outputs[site.module]), before)
        # A right one differs by rounding, like two kernels of one model.
        if not error <= 4 * rounding or effect <= 8 * rounding:
            raise UnsupportedModelError(
                f"no temperature site in {_class(site)} with its own attention implementation: its output is off by "
                f"{error:.2g} where a temperature moves it by {effect:.2g} and the choice of the implementation by "
                f"{rounding:.2g}; load the model with attn_implementation='eager', in float32"
            )


def _distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the largest difference; it is NaN where something overflows, of which nothing can be said."""
    return (x.cpu() - y.cpu()).abs().max().item()


def _size(x: torch.Tensor) -> float:
    """Return the largest absolute value of what is neither masked nor overflown."""
    return x.masked_fill(~((x > _MASKED) & x.isfinite()), 0).abs().max().item()


def _class(site: Site) -> str:
    return f"{type(site.module).__name__} ({site.name})"
