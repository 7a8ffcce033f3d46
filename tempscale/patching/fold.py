"""Write a temperature into the weights of a model, to serve it where nothing is patched."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tempscale.patching.exchange import Temperature, refuse_running
from tempscale.patching.patch import FOLDED, unpatched
from tempscale.patching.proof import find_sites, prove
from tempscale.patching.recorder import Recorder, UnsupportedModelError, configurations
from tempscale.patching.schedules import Layered, Schedule, check_schedule, kind_of, per_layer
from tempscale.patching.sources import TEMPERED, NumberSource, Site, Source, output_sources

_CARD = """

## Temperature

The attention logits of this model are divided by {temperature} at inference (TempScale, arXiv:2410.24200). The temperature
is folded into the weights of its queries; it was put there by `tempscale.fold`, and `config.json` records it as
`{key}`.
"""


@dataclass
class WeightSource:
    """A weight or bias that the logits are proportional to."""

    parameter: nn.Parameter = field(repr=False)
    attribute: str
    groups: int | None = None  # of a fused projection: rows (groups, 3, width), of which the first third are queries
    one_plus: bool = False  # the module multiplies by 1 + weight

    def __post_init__(self) -> None:
        self.original = self.parameter.detach().clone()

    def set(self, temperature: Temperature) -> None:
        """Divide the weight, as it was at first."""
        assert isinstance(temperature, float)
        scaled = (1 + self.original) / temperature - 1 if self.one_plus else self.original / temperature
        with torch.no_grad():
            if self.groups is None:
                self.parameter.copy_(scaled)
            else:
                self._queries(self.parameter).copy_(self._queries(scaled))

    def _queries(self, fused: torch.Tensor) -> torch.Tensor:
        """Return the rows of a fused weight that make queries, a view."""
        return fused.view(self.groups or 1, 3, -1, *fused.shape[1:])[:, 0]

    def restore(self) -> None:
        """Put the original back, bit for bit."""
        with torch.no_grad():
            self.parameter.copy_(self.original)


def fold(model: nn.Module, temperature: Schedule) -> nn.Module:
    """Divide the attention logits of a model by a temperature for good, by its weights.

    The folded model is an ordinary one: it can be saved, exported, and loaded where tempscale is not installed, at no cost
    in speed. It computes what the patched model computes up to the rounding of its weights; the places are proved as in
    `patch`. The temperature is recorded in the configuration as `tempscale_temperature`, and in the model card of a
    SentenceTransformer.

    Args:
        model: transformers model, or any module around one, such as a SentenceTransformer. Changed in place.
        temperature: number from 0.001 to 1000, or `PerLayer` of such numbers where layers share no table of position biases.

    Returns:
        The same model.

    Raises:
        ValueError: a temperature outside its range or that depends on the length, or a model that is patched
            or folded already. The model is left as it was.
        UnsupportedModelError: the model has no proved temperature site, or none that is a weight.
        TypeError: not a torch module.
        RuntimeError: the model is running, in this thread or another.

    Source: TempScale, arXiv 2410.24200; W_Q and b_Q divided by the temperature divide q·k.

    >>> from transformers import BertConfig, BertModel
    >>> model = BertModel(BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    ...                              intermediate_size=32))
    >>> fold(model, 0.8).config.tempscale_temperature
    0.8
    """
    with torch.inference_mode(False):  # whose tensors could not be trained afterwards
        return _fold(model, temperature)


def _fold(model: nn.Module, temperature: Schedule) -> nn.Module:
    checked = check_schedule(temperature)
    kind = kind_of(checked)
    if kind == "per sequence":
        raise ValueError(f"{temperature} depends on the length of the text, which weights cannot know: use patch")
    transformer = unpatched(model)
    refuse_running(transformer)
    found, n_layers = find_sites(transformer, "uniform")
    each: list[Any] = per_layer(checked, n_layers)
    weights: dict[int, Source] = {}
    sites = [
        Site(site.name, site.layer, site.module, list(_weights(site.module, transformer, weights))) for site in found
    ]
    # 1 + weight is rounded also for powers of two.
    one_plus = any(isinstance(weight, WeightSource) and weight.one_plus for weight in weights.values())
    rounding = 64 * torch.finfo(next(transformer.parameters()).dtype).eps if one_plus else 0.0
    capped = kind == "per layer" and any(isinstance(source, NumberSource) for source in weights.values())
    failure = "all layers share one soft cap" if capped else prove(Recorder(transformer), sites, kind, rounding)
    if failure is not None:
        remedy = "one temperature for all layers" if kind == "per layer" else "tempscale.patch"
        raise UnsupportedModelError(
            f"{temperature} cannot be folded into {type(transformer).__name__}: {failure}; use {remedy}"
        )
    for site in sites:
        site.set(each[site.layer])
        vars(site.module)[TEMPERED] = True  # and not the site, which has the old weights
    record = each if isinstance(checked, Layered) else checked
    for config in configurations(transformer):
        setattr(config, FOLDED, record)
    _write_card(model, record)
    return model


def _weights(module: nn.Module, transformer: Any, known: dict[int, Source]) -> Iterator[Source]:
    """Yield the weights of an attention module's queries and tables, and its soft cap; those of shared parts once made."""
    for made in output_sources(module, transformer):
        parameters = dict(made.module.named_parameters(recurse=False))
        if not parameters or not all(parameter.is_floating_point() for parameter in parameters.values()):
            raise UnsupportedModelError(
                f"no weights to fold a temperature into in {type(made.module).__name__} ({made.attribute} of "
                f"{type(module).__name__}): merge adapters first (`merge_and_unload`), and load without quantization"
            )
        for name, parameter in parameters.items():
            weight = WeightSource(parameter, made.attribute, made.groups, _is_one_plus(made.module, name))
            yield known.setdefault(id(parameter), weight)
    bias = getattr(module, "q_bias", None)
    if isinstance(bias, nn.Parameter):
        yield known.setdefault(id(bias), WeightSource(bias, "q_bias"))
    cap = "attn_logit_softcapping"
    for owner in (module, transformer.config):
        if isinstance(getattr(owner, cap, None), float):
            yield known.setdefault(id(owner), NumberSource(owner, cap, getattr(owner, cap)))


def _is_one_plus(module: nn.Module, name: str) -> bool:
    """Whether a normalisation multiplies by 1 + weight (Gemma): then zero weights do not make its output zero."""
    if name != "weight" or isinstance(module, (nn.Linear, nn.Conv1d, nn.Embedding)):
        return False
    weight = module.get_parameter(name)
    output = torch.func.functional_call(module, {name: torch.zeros_like(weight)}, (torch.ones_like(weight)[None],))
    return bool(output.any())


def _write_card(model: Any, record: Any) -> None:
    """Add the temperature to the model card that a SentenceTransformer writes when it is saved."""
    if hasattr(model, "_model_card_text"):
        card = model._model_card_text or "---\ntags:\n- sentence-transformers\n---\n\n# Model"
        model._model_card_text = card + _CARD.format(temperature=record, key=FOLDED)
