"""Attention for which dividing the obvious attribute does not give softmax(S / tau): written to break `patch`.

One small encoder takes any of them. FAULTS are those where the division of a known attribute goes wrong, in some layer, for
some inputs; SOUND are those where it is right, however odd they look; LONG_PATHS are right up to a length. Nothing here
knows how the package finds or proves its sites, only the names of the attributes that it divides.

Each attention divides its complete logits by its `reference_temperature` itself, and does nothing else with it: that is what
a patched model must give. A reference run is eager, whatever the implementation, as no other can have one temperature for
each text. The test of this module checks that both implementations agree without a temperature.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

HEADS, HEAD_DIM, HIDDEN = 4, 8, 32
SIZE = HEAD_DIM**-0.5
LAYERS = 3
MASKED = torch.finfo(torch.float32).min
EVERYWHERE, FIRST, MIDDLE, LAST = (0, 1, 2), (0,), (1,), (2,)


def linear(n_in: int = HIDDEN, n_out: int = HIDDEN) -> nn.Linear:
    """Return a projection that gives logits of a size where a temperature matters."""
    made = nn.Linear(n_in, n_out)
    nn.init.normal_(made.weight, std=0.25)
    nn.init.normal_(made.bias, std=0.25)
    return made


def split(states: torch.Tensor, heads: int = HEADS) -> torch.Tensor:
    """Turn (batch, n, width) into (batch, heads, n, head_dim)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(states: torch.Tensor) -> torch.Tensor:
    """Turn (batch, heads, n, head_dim) into (batch, n, width)."""
    return states.transpose(1, 2).flatten(2)


def distances(n: int) -> torch.Tensor:
    """Return |i - j|, (n, n)."""
    positions = torch.arange(n)
    return (positions[:, None] - positions[None, :]).abs()


def padded(mask: torch.Tensor) -> torch.Tensor:
    """Return whether a batch has padding."""
    return (mask < 0).any()


class Attention(nn.Module):
    """Attention with a scale and a query projection under known names."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.reference_temperature: float | torch.Tensor = 1.0
        self.scaling = SIZE
        self.query, self.key, self.value = linear(), linear(), linear()

    @staticmethod
    def tie(layers: nn.ModuleList) -> None:
        """Let the layers of a model share what they share."""

    @property
    def is_reference(self) -> bool:
        return isinstance(self.reference_temperature, torch.Tensor) or self.reference_temperature != 1

    @property
    def is_sdpa(self) -> bool:
        return self.config._attn_implementation == "sdpa" and not self.is_reference

    def divided(self, logits: torch.Tensor) -> torch.Tensor:
        """Return complete logits (batch, ...) over the reference temperature."""
        temperature = self.reference_temperature
        if isinstance(temperature, torch.Tensor):
            temperature = temperature.view(-1, *[1] * (logits.dim() - 1))
        return logits / temperature

    def size(self) -> float:
        return self.scaling

    def queries(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.query(hidden)

    def project(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return split(self.queries(hidden)), split(self.key(hidden)), split(self.value(hidden))

    def scores(self, queries: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the complete logits."""
        return queries @ keys.mT * self.size()

    def normalise(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(-1)

    def mix(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.is_sdpa:
            return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=self.size())
        return self.normalise(self.divided(self.scores(queries, keys, mask)) + mask) @ values

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> Any:
        return merge(self.mix(*self.project(hidden), mask))


class Scaled(Attention):
    """Attention whose only known attribute is its scale."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.to_queries = self.query
        del self.query

    def queries(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.to_queries(hidden)


class Projected(Attention):
    """Attention whose only known attribute is its query projection."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.scaling

    def size(self) -> float:
        return SIZE


class Hidden(Scaled, Projected):
    """Attention without a known attribute."""

    def queries(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.to_queries(hidden)


class Layer(nn.Module):
    """A layer of the encoder around any attention."""

    def __init__(self, config: Any, attention: type[nn.Module]) -> None:
        super().__init__()
        self.attention: Any = attention(config)
        self.output = linear()
        self.expand, self.contract = linear(HIDDEN, 64), linear(64, HIDDEN)
        self.attention_norm, self.final_norm = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)

    def attend(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.attention(hidden, mask)

    def feed(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.contract(F.gelu(self.expand(hidden)))

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.attention_norm(hidden + self.output(self.attend(hidden, mask)))
        return self.final_norm(hidden + self.feed(hidden))


@dataclass(frozen=True)
class Variant:
    """A model: which class makes which of its layers, and whether it has an sdpa path of its own."""

    name: str
    sentence: str
    attention: type[nn.Module]
    layer: type[nn.Module]
    where: Sequence[int]
    has_sdpa: bool
    has_state: bool


class PlantedConfig(PretrainedConfig):
    """Configuration of a planted model."""

    model_type = "planted"

    def __init__(self, variant: str = "Plain", **kwargs: Any) -> None:
        self.variant = variant
        self.vocab_size, self.hidden_size, self.max_position_embeddings = 99, HIDDEN, 1024
        self.num_hidden_layers, self.num_attention_heads = LAYERS, HEADS
        super().__init__(**kwargs)


class PlantedEncoder(PreTrainedModel):
    """A small encoder with the layers that its configuration names."""

    config_class = PlantedConfig
    _supports_sdpa = True

    def __init__(self, config: PlantedConfig) -> None:
        super().__init__(config)
        variant = {**FAULTS, **LONG_PATHS, **SOUND}[config.variant]
        self.words = nn.Embedding(config.vocab_size, HIDDEN)
        self.positions = nn.Embedding(config.max_position_embeddings, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN)
        self.layers = nn.ModuleList(
            variant.layer(config, variant.attention) if index in variant.where else Layer(config, Attention)
            for index in range(LAYERS)
        )
        getattr(variant.attention, "tie", Attention.tie)(self.layers)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the weights that the constructors made."""

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        if inputs_embeds is None:
            inputs_embeds = self.words(input_ids)
        batch, n, _width = inputs_embeds.shape
        if attention_mask is None:
            attention_mask = torch.ones(batch, n)
        mask = torch.zeros(batch, 1, 1, n).masked_fill(attention_mask[:, None, None, :] == 0, MASKED)
        hidden = self.norm(inputs_embeds + self.positions(torch.arange(n)))
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return BaseModelOutput(last_hidden_state=hidden)


FAULTS: dict[str, Variant] = {}
LONG_PATHS: dict[str, Variant] = {}
SOUND: dict[str, Variant] = {}


def plant(
    where: dict[str, Variant],
    *,
    layers: Sequence[int] = EVERYWHERE,
    also: Sequence[Sequence[int]] = (),
    sdpa: bool = False,
    state: bool = False,
) -> Callable[[Any], Any]:
    """Register an attention, or a layer with its `attention_class`, by its name and the sentence of its docstring.

    Args:
        where: registry.
        layers: layers that are made of it; the others are plain.
        also: layers of further models, named after them.
        sdpa: whether it has an sdpa path.
        state: whether it keeps something between calls.
    """

    def register(made: Any) -> Any:
        is_layer = hasattr(made, "attention_class")
        attention, layer = (made.attention_class, made) if is_layer else (made, Layer)
        for chosen in (layers, *also):
            name = made.__name__ + ("" if chosen is layers else "".join(map(str, chosen)))
            where[name] = Variant(name, made.__doc__, attention, layer, chosen, sdpa, state)
        return made

    return register


def build(name: str, implementation: str = "eager") -> PlantedEncoder:
    """Return the model of a variant, with the same weights each time."""
    torch.default_generator.manual_seed(0)
    return PlantedEncoder._from_config(PlantedConfig(name), attn_implementation=implementation).eval()


def set_reference(model: nn.Module, temperatures: Iterable[float | torch.Tensor]) -> None:
    """Give each attention its reference temperature, in the order of the forward pass."""
    attentions = [module for module in model.modules() if hasattr(module, "reference_temperature")]
    for module, temperature in zip(attentions, temperatures, strict=True):
        module.reference_temperature = temperature


# Half a site.


@plant(FAULTS, also=(LAST,))
class HalfTheHeads(Scaled):
    """The scale is used for half of the heads; the others have a constant."""

    def scores(self, queries, keys, mask):
        products = queries @ keys.mT
        return torch.cat((products[:, :2] * self.scaling, products[:, 2:] * SIZE), 1)


@plant(FAULTS)
class OneHeadApart(Scaled):
    """The last head does not use the scale."""

    def scores(self, queries, keys, mask):
        sizes = torch.full((HEADS, 1, 1), self.scaling)
        sizes[-1] = SIZE
        return queries @ keys.mT * sizes


@plant(FAULTS)
class QueriesOfOneTerm(Projected):
    """The logits are a sum of two products, and only the queries of one have a known name."""

    def __init__(self, config):
        super().__init__(config)
        self.second_queries, self.second_keys = linear(), linear()

    def project(self, hidden):
        queries = torch.cat((split(self.query(hidden)), split(self.second_queries(hidden))), -1)
        keys = torch.cat((split(self.key(hidden)), split(self.second_keys(hidden))), -1)
        return queries, keys, split(self.value(hidden))


@plant(FAULTS, sdpa=True)
class HalfTheQueryWidth(Projected):
    """Half of each query comes from the projection, the other half from the hidden states themselves."""

    def queries(self, hidden):
        own = self.query(hidden).unflatten(-1, (HEADS, HEAD_DIM))
        plain = hidden.unflatten(-1, (HEADS, HEAD_DIM))
        return torch.cat((own[..., :4], plain[..., 4:]), -1).flatten(2)


@plant(FAULTS, sdpa=True)
class FirstTokenApart(Projected):
    """The queries of the first token come from a projection of their own."""

    def __init__(self, config):
        super().__init__(config)
        self.first_query = linear()

    def queries(self, hidden):
        return torch.cat((self.first_query(hidden[:, :1]), self.query(hidden[:, 1:])), 1)


@plant(FAULTS)
class FirstColumnLearned(Scaled):
    """The logits of the first key are learned numbers that no scale multiplies."""

    def __init__(self, config):
        super().__init__(config)
        self.first = nn.Parameter(torch.randn(HEADS, 1, 1))

    def scores(self, queries, keys, mask):
        logits = queries @ keys.mT * self.scaling
        return torch.cat((self.first.expand_as(logits[..., :1]), logits[..., 1:]), -1)


@plant(FAULTS)
class DiagonalApart(Scaled):
    """The logit of a token with itself does not use the scale."""

    def scores(self, queries, keys, mask):
        products = queries @ keys.mT
        return torch.where(torch.eye(keys.shape[-2], dtype=torch.bool), products * SIZE, products * self.scaling)


# One layer, or some layers.


@plant(FAULTS, also=(FIRST, MIDDLE, LAST, (0, 2)), sdpa=True)
class DeadScale(Scaled):
    """The scale is an attribute that nothing reads."""

    def size(self):
        return SIZE


@plant(FAULTS, layers=LAST, sdpa=True)
class BoundAtConstruction(Scaled):
    """The scale was bound into a function when the module was made, in the last layer."""

    def __init__(self, config):
        super().__init__(config)
        self.sized = partial(torch.mul, SIZE)

    def size(self):
        return float(self.sized(torch.tensor(1.0, dtype=torch.float64)))


# tau for 1 / tau.


@plant(FAULTS, also=(FIRST, LAST), sdpa=True)
class Divisor(Scaled):
    """What is called scale is what the logits are divided by."""

    def __init__(self, config):
        super().__init__(config)
        del self.scaling
        self.scale = 1 / SIZE

    def size(self):
        return 1 / self.scale


@plant(FAULTS)
class DivisorBesideScale(Scaled):
    """The logits are multiplied by one known number and divided by another."""

    def __init__(self, config):
        super().__init__(config)
        self.softmax_scale = 1.5

    def size(self):
        return self.scaling / self.softmax_scale


# A bias left out.


class Biased(Scaled):
    """Scaled attention with a bias on its logits."""

    def bias(self, n: int) -> torch.Tensor:
        """Return the bias of the logits of n tokens."""
        raise NotImplementedError

    def scores(self, queries, keys, mask):
        return super().scores(queries, keys, mask) + self.bias(keys.shape[-2])

    def mix(self, queries, keys, values, mask):
        if self.is_sdpa:
            mask = mask + self.bias(keys.shape[-2])
        return super().mix(queries, keys, values, mask)


@plant(FAULTS, sdpa=True)
class PositionBias(Biased):
    """A learned bias of distances, in a parameter of another name, is added to the scaled logits."""

    def __init__(self, config):
        super().__init__(config)
        self.far = nn.Parameter(torch.randn(HEADS, 16))

    def bias(self, n):
        return self.far[:, distances(n).clamp(max=15)]


@plant(FAULTS, sdpa=True)
class AlibiBuffer(Biased):
    """Slopes times distances are subtracted from the scaled logits."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("slopes", 2.0 ** -torch.arange(1, HEADS + 1)[:, None, None])

    def bias(self, n):
        return -self.slopes * distances(n)


@plant(FAULTS, layers=LAST, sdpa=True)
class FaintBias(Biased):
    """A bias of 0.02 for neighbours is added in the last layer."""

    def bias(self, n):
        return 0.02 * (distances(n) == 1).float()


@plant(FAULTS, sdpa=True)
class FarBias(Biased):
    """A bias is added for tokens at least 7 apart only."""

    def bias(self, n):
        return -2.0 * (distances(n) >= 7).float()


@plant(FAULTS)
class KeyBias(Scaled):
    """A learned vector times the keys is added to the scaled logits, as in Transformer-XL."""

    def __init__(self, config):
        super().__init__(config)
        self.content = nn.Parameter(torch.randn(HEADS, 1, HEAD_DIM))

    def scores(self, queries, keys, mask):
        return super().scores(queries, keys, mask) + self.content @ keys.mT


@plant(FAULTS)
class ContentBias(Projected):
    """A learned vector is added to the queries after their projection, as in Transformer-XL."""

    def __init__(self, config):
        super().__init__(config)
        self.content = nn.Parameter(torch.randn(HIDDEN))

    def queries(self, hidden):
        return self.query(hidden) + self.content


@plant(FAULTS, sdpa=True)
class BiasInMask(Layer):
    """The layer adds ALiBi to the mask before attention sees it."""

    attention_class = Scaled

    def attend(self, hidden, mask):
        slopes = 2.0 ** -torch.arange(1, HEADS + 1)[:, None, None]
        bias = (-slopes * distances(hidden.shape[1])).expand(len(hidden), -1, -1, -1)
        return self.attention(hidden, mask + self.attention.divided(bias))


@plant(FAULTS, sdpa=True)
class LeakyMaskUnderScale(Scaled):
    """The mask is -30 and is added before the scale, so that a temperature divides it, too."""

    def scores(self, queries, keys, mask):
        return queries @ keys.mT

    def mix(self, queries, keys, values, mask):
        leaky = mask.clamp(min=-30)
        if self.is_sdpa:
            return super().mix(queries, keys, values, leaky * self.scaling)
        if self.is_reference:
            logits = self.divided(self.scores(queries, keys, mask) * self.scaling) + leaky * self.scaling
        else:
            logits = (self.scores(queries, keys, mask) + leaky) * self.scaling
        return self.normalise(logits) @ values


@plant(FAULTS)
class TableUnderScale(Scaled):
    """A bias table with a known name is added before the scale, so that it is divided twice."""

    def __init__(self, config):
        super().__init__(config)
        self.relative_attention_bias = nn.Embedding(16, HEADS)

    def scores(self, queries, keys, mask):
        biases = self.relative_attention_bias(distances(keys.shape[-2]).clamp(max=15)).permute(2, 0, 1)
        return (queries @ keys.mT + biases) * self.scaling


@plant(FAULTS)
class TableInValues(Scaled):
    """A bias table with a known name is added to the logits and, averaged over heads, to the weights after softmax."""

    def __init__(self, config):
        super().__init__(config)
        self.relative_attention_bias = nn.Embedding(16, HEADS)

    def mix(self, queries, keys, values, mask):
        biases = self.relative_attention_bias(distances(keys.shape[-2]).clamp(max=15)).permute(2, 0, 1)
        logits = self.divided(self.scores(queries, keys, mask) + biases) + mask
        real = (mask == 0).float()
        return (self.normalise(logits) + 0.05 * biases.mean(0) * real) @ values


# Gates, and other uses of the queries.


@plant(FAULTS, also=(LAST,), sdpa=True)
class GateFromQueries(Projected):
    """What attention returns is multiplied by the sigmoid of the queries."""

    def mix(self, queries, keys, values, mask):
        return super().mix(queries, keys, values, mask) * queries.sigmoid()


@plant(FAULTS, sdpa=True)
class GateFromScale(Scaled):
    """What attention returns is multiplied by a function of the scale."""

    def mix(self, queries, keys, values, mask):
        return super().mix(queries, keys, values, mask) * math.tanh(3 * self.scaling)


@plant(FAULTS, sdpa=True)
class QueriesAsValues(Projected):
    """Queries and values are the same projection."""

    def project(self, hidden):
        queries, keys, _ = super().project(hidden)
        return queries, keys, queries


@plant(FAULTS, also=(LAST,), sdpa=True)
class QueriesAsKeys(Projected):
    """Queries and keys are the same projection, as in Reformer."""

    def project(self, hidden):
        queries, _, values = super().project(hidden)
        return queries, queries, values


@plant(FAULTS, sdpa=True)
class QuerySkip(Projected):
    """The queries are added to what attention returns."""

    def mix(self, queries, keys, values, mask):
        return super().mix(queries, keys, values, mask) + queries


@plant(FAULTS, layers=LAST, sdpa=True)
class FaintQuerySkip(Projected):
    """A thousandth of the queries is added to what attention returns, in the last layer."""

    def mix(self, queries, keys, values, mask):
        return super().mix(queries, keys, values, mask) + 0.001 * queries


@plant(FAULTS, sdpa=True)
class QuerySkipBesidePadding(Projected):
    """The queries are added to what attention returns, in texts that have padding."""

    def mix(self, queries, keys, values, mask):
        return super().mix(queries, keys, values, mask) + queries * (mask < 0).any(-1, keepdim=True)


@plant(FAULTS)
class QueriesInFeedForward(Layer):
    """The feed-forward block of the layer calls the query projection of the attention once more."""

    attention_class = Projected

    def feed(self, hidden):
        return super().feed(hidden) + self.attention.query(hidden)


# A scale used twice.


@plant(FAULTS, also=(LAST,), sdpa=True)
class SquaredScale(Scaled):
    """The logits have the square of the scale."""

    def size(self):
        return self.scaling**2 / SIZE


@plant(FAULTS)
class ScaleOnKeysToo(Scaled):
    """Queries and keys are both multiplied by the scale."""

    def __init__(self, config):
        super().__init__(config)
        self.scaling = HEAD_DIM**-0.25

    def scores(self, queries, keys, mask):
        return (queries * self.scaling) @ (keys * self.scaling).mT


@plant(FAULTS)
class TwoScales(Scaled):
    """The logits are multiplied by two numbers that both have a known name."""

    def __init__(self, config):
        super().__init__(config)
        self.softmax_scale = 0.8

    def size(self):
        return self.scaling * self.softmax_scale


@plant(FAULTS, sdpa=True)
class ScaleOnOutput(Scaled):
    """What attention returns is multiplied by the scale, too."""

    def mix(self, queries, keys, values, mask):
        return super().mix(queries, keys, values, mask) * self.scaling


@plant(FAULTS, sdpa=True)
class ScaleInResidual(Layer):
    """The residual branch of the layer is multiplied by the scale of its attention."""

    attention_class = Scaled

    def attend(self, hidden, mask):
        return super().attend(hidden, mask) * self.attention.scaling


@plant(FAULTS, sdpa=True)
class ScaleInFeedForward(Layer):
    """The feed-forward block of the layer is multiplied by the scale of its attention."""

    attention_class = Scaled

    def feed(self, hidden):
        return super().feed(hidden) * self.attention.scaling


# Paths that ignore the scale.


class SometimesDead(Scaled):
    """Attention that ignores its scale for some inputs."""

    def ignores(self, keys: torch.Tensor, mask: torch.Tensor) -> Any:
        """Return whether the scale is ignored, for the batch or for each text (batch, 1, 1, 1)."""
        raise NotImplementedError

    def scores(self, queries, keys, mask):
        ignored = torch.as_tensor(self.ignores(keys, mask))
        return queries @ keys.mT * torch.where(ignored, SIZE, self.scaling)


class Beyond(SometimesDead):
    """Attention that ignores its scale for long inputs."""

    threshold: int

    def ignores(self, keys, mask):
        return keys.shape[-2] > self.threshold


@plant(FAULTS)
class Beyond9(Beyond):
    """Batches longer than 9 tokens ignore the scale."""

    threshold = 9


@plant(FAULTS)
class Beyond16(Beyond):
    """Batches longer than 16 tokens ignore the scale."""

    threshold = 16


@plant(LONG_PATHS)
class Beyond24(Beyond):
    """Batches longer than 24 tokens ignore the scale."""

    threshold = 24


@plant(LONG_PATHS)
class Beyond40(Beyond):
    """Batches longer than 40 tokens ignore the scale."""

    threshold = 40


@plant(LONG_PATHS)
class Beyond100(Beyond):
    """Batches longer than 100 tokens ignore the scale."""

    threshold = 100


@plant(LONG_PATHS)
class Beyond600(Beyond):
    """Batches longer than 600 tokens ignore the scale."""

    threshold = 600


@plant(FAULTS)
class ShortTexts(SometimesDead):
    """Batches of at most 5 tokens ignore the scale."""

    def ignores(self, keys, mask):
        return keys.shape[-2] <= 5


@plant(FAULTS)
class EvenLengths(SometimesDead):
    """Batches of an even length ignore the scale."""

    def ignores(self, keys, mask):
        return keys.shape[-2] % 2 == 0


@plant(FAULTS)
class OddLengths(SometimesDead):
    """Batches of an odd length ignore the scale."""

    def ignores(self, keys, mask):
        return keys.shape[-2] % 2 == 1


@plant(FAULTS)
class Alone(SometimesDead):
    """A text alone in its batch ignores the scale."""

    def ignores(self, keys, mask):
        return len(keys) == 1


@plant(FAULTS)
class InCompany(SometimesDead):
    """Texts that are not alone in their batch ignore the scale."""

    def ignores(self, keys, mask):
        return len(keys) > 1


@plant(FAULTS)
class ThirdTextApart(SometimesDead):
    """Only the first two texts of a batch use the scale."""

    def ignores(self, keys, mask):
        return torch.arange(len(keys))[:, None, None, None] >= 2


@plant(FAULTS)
class WithoutPadding(SometimesDead):
    """Batches without padding ignore the scale."""

    def ignores(self, keys, mask):
        return ~padded(mask)


@plant(FAULTS)
class WithPadding(SometimesDead):
    """Batches with padding ignore the scale."""

    def ignores(self, keys, mask):
        return padded(mask)


@plant(FAULTS)
class FullRows(SometimesDead):
    """Texts without padding ignore the scale, in batches that have padding."""

    def ignores(self, keys, mask):
        return padded(mask) & (mask == 0).all(-1, keepdim=True)


@plant(FAULTS)
class LongPadding(SometimesDead):
    """Texts with more than 3 tokens of padding ignore the scale."""

    def ignores(self, keys, mask):
        return (mask < 0).sum(-1, keepdim=True) > 3


@plant(FAULTS)
class LongPaddedTexts(SometimesDead):
    """Texts with padding and more than 5 tokens of their own ignore the scale."""

    def ignores(self, keys, mask):
        return (mask < 0).any(-1, keepdim=True) & ((mask == 0).sum(-1, keepdim=True) > 5)


@plant(FAULTS)
class ByContent(SometimesDead):
    """Texts whose first key has a first component above 0 ignore the scale."""

    def ignores(self, keys, mask):
        return keys[:, :1, :1, :1] > 0


@plant(FAULTS)
class ByLargeKeys(SometimesDead):
    """Texts in which some key has a component above 5 ignore the scale."""

    def ignores(self, keys, mask):
        return keys.amax((1, 2, 3), keepdim=True) > 5


@plant(FAULTS)
class FarQueries(SometimesDead):
    """The queries from position 12 on ignore the scale."""

    def ignores(self, keys, mask):
        return torch.arange(keys.shape[-2])[:, None] >= 12


@plant(FAULTS, layers=LAST)
class Beyond9InTheLastLayer(Beyond):
    """Batches longer than 9 tokens ignore the scale in the last layer."""

    threshold = 9


@plant(FAULTS, sdpa=True)
class DeadInSdpa(Scaled):
    """The sdpa path uses torch's own default for the scale, the eager path the attribute."""

    def mix(self, queries, keys, values, mask):
        if self.is_sdpa:
            return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return super().mix(queries, keys, values, mask)


@plant(FAULTS, sdpa=True)
class UnmaskedSdpa(Scaled):
    """Without padding the sdpa path is called without mask and without scale."""

    def mix(self, queries, keys, values, mask):
        if self.is_sdpa and not padded(mask):
            return F.scaled_dot_product_attention(queries, keys, values)
        return super().mix(queries, keys, values, mask)


@plant(FAULTS, sdpa=True)
class FusedWeightsInSdpa(Projected):
    """The sdpa path uses the weights of the three projections and calls none of them."""

    def queries(self, hidden):
        return F.linear(hidden, self.query.weight, self.query.bias) if self.is_sdpa else self.query(hidden)


@plant(FAULTS)
class FusedWeightsBeyond9(Projected):
    """Batches longer than 9 tokens use the weights of the query projection and do not call it."""

    def queries(self, hidden):
        long = hidden.shape[1] > 9
        return F.linear(hidden, self.query.weight, self.query.bias) if long else self.query(hidden)


@plant(FAULTS)
class OnlyLongTextsAttend(Layer):
    """Attention runs for more than 12 tokens only, and then it ignores its scale."""

    attention_class = DeadScale

    def attend(self, hidden, mask):
        return super().attend(hidden, mask) if hidden.shape[1] > 12 else hidden


# Routers inside attention.


@plant(FAULTS)
class TextRouter(Scaled):
    """The scale is in a softmax over experts for each text, in the attention module."""

    def __init__(self, config):
        super().__init__(config)
        self.router = linear(HIDDEN, HEADS)

    def forward(self, hidden, mask):
        shares = (self.router(hidden[:, 0]) * self.scaling / SIZE).softmax(-1)
        mixed = self.mix(*self.project(hidden), mask)
        return merge(mixed * shares[:, :, None, None] * HEADS)


@plant(FAULTS)
class TokenRouter(Scaled):
    """The scale is in a softmax over experts for each token, in the attention module."""

    def __init__(self, config):
        super().__init__(config)
        self.router = linear(HIDDEN, HEADS)

    def forward(self, hidden, mask):
        shares = (self.router(hidden) * self.scaling / SIZE).softmax(-1)
        mixed = self.mix(*self.project(hidden), mask)
        return merge(mixed * shares.mT[..., None] * HEADS)


@plant(FAULTS)
class QueryRouter(Projected):
    """The queries of each head also choose between 3 experts for the values, by a softmax over (batch, heads, n, 3)."""

    def __init__(self, config):
        super().__init__(config)
        self.experts = nn.Parameter(torch.randn(HEADS, HEAD_DIM, 3))
        self.strengths = nn.Parameter(torch.randn(3, HEAD_DIM))

    def mix(self, queries, keys, values, mask):
        return super().mix(queries, keys, values, mask) * ((queries @ self.experts).softmax(-1) @ self.strengths)


# Sinks, norms and caps.


@plant(FAULTS)
class Sink(Scaled):
    """A learned logit for each head takes part in softmax and is dropped, as in gpt-oss."""

    def __init__(self, config):
        super().__init__(config)
        self.sinks = nn.Parameter(torch.randn(HEADS, 1, 1))

    def mix(self, queries, keys, values, mask):
        logits = self.scores(queries, keys, mask)
        sinks = self.sinks.expand_as(logits[..., :1])
        logits = torch.cat((self.divided(logits) + mask, self.divided(sinks)), -1)
        return self.normalise(logits)[..., :-1] @ values


@plant(FAULTS, sdpa=True)
class NormalisedQueries(Projected):
    """The queries are normalised to unit length after their projection."""

    def queries(self, hidden):
        return merge(F.normalize(split(self.query(hidden)), dim=-1)) * 4


@plant(FAULTS)
class LayerNormedQueries(Projected):
    """The queries pass a layer norm with an unknown name after their projection."""

    def __init__(self, config):
        super().__init__(config)
        self.norm_of_queries = nn.LayerNorm(HIDDEN)

    def queries(self, hidden):
        return self.norm_of_queries(self.query(hidden))


@plant(FAULTS)
class NormalisedWhenLong(Projected):
    """Queries longer than 8 are cut to that length."""

    def queries(self, hidden):
        states = self.query(hidden)
        return states * (8 / states.norm(dim=-1, keepdim=True)).clamp(max=1)


@plant(FAULTS)
class SoftCap(Scaled):
    """The scaled logits pass 5 tanh(S / 5), and the 5 is a constant."""

    def scores(self, queries, keys, mask):
        return 5 * torch.tanh(super().scores(queries, keys, mask) / 5)


@plant(FAULTS)
class CapFromConfig(Scaled):
    """A soft cap has a known name, but attention reads it from its configuration."""

    def __init__(self, config):
        super().__init__(config)
        self.attn_logit_softcapping = config.cap = 5.0

    def scores(self, queries, keys, mask):
        return self.config.cap * torch.tanh(super().scores(queries, keys, mask) / self.config.cap)


@plant(FAULTS)
class ClampedLogits(Scaled):
    """The scaled logits are clamped to 3."""

    def scores(self, queries, keys, mask):
        return super().scores(queries, keys, mask).clamp(-3, 3)


@plant(FAULTS)
class RarelyClampedLogits(Scaled):
    """The scaled logits are clamped to 12, which only a sharp temperature reaches often."""

    def scores(self, queries, keys, mask):
        return super().scores(queries, keys, mask).clamp(-12, 12)


@plant(FAULTS)
class Threshold(Scaled):
    """Scaled logits below -2 are masked."""

    def scores(self, queries, keys, mask):
        logits = super().scores(queries, keys, mask)
        return logits.masked_fill(logits < -2, MASKED)


@plant(FAULTS)
class PowerOfLogits(Scaled):
    """The logits are the product of queries and keys to the power of 3, with the sign."""

    def scores(self, queries, keys, mask):
        return super().scores(queries, keys, mask) ** 3 / 9


@plant(FAULTS)
class LimitedScale(Scaled):
    """A scale above 0.6 counts as 0.6."""

    def size(self):
        return min(self.scaling, 0.6)


@plant(FAULTS)
class FlooredScale(Scaled):
    """A scale below 0.2 counts as 0.2."""

    def size(self):
        return max(self.scaling, 0.2)


@plant(FAULTS)
class RoundedScale(Scaled):
    """The scale is rounded to a power of two times its first value."""

    def size(self):
        return SIZE * 2.0 ** round(math.log2(self.scaling / SIZE))


# Scales that are no plain attribute.


@plant(FAULTS)
class ScaleProperty(Scaled):
    """The scale is a property that cannot be set."""

    @property
    def scale(self):
        return SIZE

    def __init__(self, config):
        super().__init__(config)
        del self.scaling

    def size(self):
        return self.scale


@plant(FAULTS)
class ScaleOfAllLayers(Scaled):
    """The scale is a property that reads and writes the configuration, which all layers share."""

    def __init__(self, config):
        super().__init__(config)
        del self.scaling
        config.head_scale = SIZE

    @property
    def scale(self):
        return self.config.head_scale

    @scale.setter
    def scale(self, value):
        self.config.head_scale = value

    def size(self):
        return self.scale


@plant(FAULTS)
class ScaleOfTheClass(Scaled):
    """The scale is read from the class, not from the module."""

    scale = SIZE

    def __init__(self, config):
        super().__init__(config)
        del self.scaling

    def size(self):
        return type(self).scale


@plant(FAULTS)
class ScaleTensor(Scaled):
    """The scale is a buffer."""

    def __init__(self, config):
        super().__init__(config)
        del self.scaling
        self.register_buffer("scaling", torch.tensor(SIZE))


@plant(FAULTS)
class ScaleBesideBuffer(Scaled):
    """There is a number and a buffer, and the logits have the buffer."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("factor", torch.tensor(SIZE))

    def size(self):
        return self.factor


# Attention that hides its softmax, beside layers that do not.


@plant(FAULTS, layers=MIDDLE, also=(LAST,))
class SpecialSoftmax(Hidden):
    """Softmax is torch.special.softmax."""

    def normalise(self, logits):
        return torch.special.softmax(logits, -1)


@plant(FAULTS, layers=LAST)
class LogSoftmaxExp(Hidden):
    """Softmax is the exponential of log_softmax."""

    def normalise(self, logits):
        return logits.log_softmax(-1).exp()


@plant(FAULTS, layers=MIDDLE, also=(EVERYWHERE,))
class ExpByHand(Hidden):
    """Softmax is exponentials over their sum."""

    def normalise(self, logits):
        powers = torch.exp(logits - logits.amax(-1, keepdim=True))
        return powers / powers.sum(-1, keepdim=True)


@plant(FAULTS, layers=LAST)
class PowersOfTwo(Hidden):
    """Softmax is powers of two over their sum, after the mixing."""

    def mix(self, queries, keys, values, mask):
        logits = self.divided(self.scores(queries, keys, mask)) * math.log2(math.e) + mask
        powers = torch.exp2(logits - logits.amax(-1, keepdim=True))
        return powers @ values / powers.sum(-1, keepdim=True)


@plant(FAULTS, layers=FIRST)
class LogSumExp(Hidden):
    """Softmax is the exponential of logits minus their logsumexp."""

    def normalise(self, logits):
        return (logits - logits.logsumexp(-1, keepdim=True)).exp()


@plant(FAULTS, layers=MIDDLE)
class SoftmaxByCompilation(Hidden):
    """Softmax is in a scripted function."""

    def normalise(self, logits):
        return scripted_softmax(logits)


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    return torch.softmax(logits, -1)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    scripted_softmax: Callable[[torch.Tensor], torch.Tensor] = torch.jit.script(_softmax)


@plant(FAULTS, layers=LAST)
class AtenSoftmax(Hidden):
    """Softmax is the operation below torch.softmax."""

    def normalise(self, logits):
        return torch.ops.aten._softmax(logits, -1, False)


@plant(FAULTS, layers=MIDDLE)
class Softmin(Hidden):
    """Softmax is softmin of the negative logits."""

    def normalise(self, logits):
        return F.softmin(-logits, -1)


@plant(FAULTS, layers=LAST)
class SoftmaxOverChannels(Hidden):
    """Softmax is nn.Softmax2d, with the keys in the place of channels."""

    def normalise(self, logits):
        return nn.Softmax2d()(logits.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@plant(FAULTS, layers=MIDDLE)
class SoftmaxOfPlainMatrices(Hidden):
    """Softmax is taken of the (n, n) logits of each head and text in turn."""

    def normalise(self, logits):
        return torch.stack([torch.stack([matrix.softmax(-1) for matrix in text]) for text in logits])


@plant(FAULTS, layers=LAST)
class SoftmaxOfRows(Hidden):
    """Softmax is taken of (batch heads n, n) logits."""

    def normalise(self, logits):
        return logits.flatten(0, 2).softmax(-1).view_as(logits)


@plant(FAULTS, layers=MIDDLE)
class SoftmaxOfColumns(Hidden):
    """Softmax is taken over dimension -2 of the transposed logits."""

    def normalise(self, logits):
        return logits.mT.softmax(-2).mT


@plant(FAULTS, layers=LAST)
class DoubleSoftmax(Hidden):
    """Softmax is taken in float64."""

    def normalise(self, logits):
        return logits.double().softmax(-1).float()


@plant(FAULTS, layers=LAST)
class NumpySoftmax(Hidden):
    """Softmax is computed by NumPy."""

    def normalise(self, logits):
        array = logits.detach().numpy()
        powers = np.exp(array - array.max(-1, keepdims=True))
        return torch.from_numpy(powers / powers.sum(-1, keepdims=True))


class SoftmaxFunction(torch.autograd.Function):
    """Softmax with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        powers = torch.exp(logits - logits.amax(-1, keepdim=True))
        return powers / powers.sum(-1, keepdim=True)


@plant(FAULTS, layers=MIDDLE)
class AutogradSoftmax(Hidden):
    """Softmax is an autograd function."""

    def normalise(self, logits):
        return SoftmaxFunction.apply(logits)


@plant(FAULTS, layers=LAST)
class FlashForCpu(Hidden):
    """Attention is the operation below torch's scaled_dot_product_attention."""

    def mix(self, queries, keys, values, mask):
        if self.is_reference:
            return super().mix(queries, keys, values, mask)
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return kernel(queries, keys, values, attn_mask=mask, scale=SIZE)[0]


@plant(FAULTS, layers=MIDDLE)
class MathKernel(Hidden):
    """Attention is torch's mathematical kernel, called by its private name."""

    def mix(self, queries, keys, values, mask):
        if self.is_reference:
            return super().mix(queries, keys, values, mask)
        return torch.ops.aten._scaled_dot_product_attention_math(queries, keys, values, attn_mask=mask, scale=SIZE)[0]


@plant(FAULTS, layers=LAST)
class HiddenSdpa(Hidden):
    """Attention of an unknown layer always uses scaled_dot_product_attention."""

    def mix(self, queries, keys, values, mask):
        if self.is_reference:
            return super().mix(queries, keys, values, mask)
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


@plant(FAULTS, layers=LAST, also=(EVERYWHERE,))
class NativeAttention(Hidden):
    """Attention is torch's MultiheadAttention, which has a native path."""

    def __init__(self, config):
        super().__init__(config)
        self.native = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True)
        nn.init.normal_(self.native.in_proj_weight, std=0.25)

    def project(self, hidden):
        queries, keys, values = F.linear(hidden, self.native.in_proj_weight, self.native.in_proj_bias).chunk(3, -1)
        return split(queries), split(keys), split(values)

    def forward(self, hidden, mask):
        if self.is_reference:
            return self.native.out_proj(super().forward(hidden, mask))
        return self.native(hidden, hidden, hidden, key_padding_mask=mask[:, 0, 0] < 0, need_weights=False)[0]


@plant(FAULTS, layers=MIDDLE, also=(EVERYWHERE,))
class NativeLayer(NativeAttention):
    """The layer is torch's TransformerEncoderLayer, which has a fast path."""

    attention_class = NativeAttention

    def __init__(self, config, attention):
        super().__init__(config)
        self.layer = nn.TransformerEncoderLayer(HIDDEN, HEADS, 64, 0.0, "gelu", batch_first=True)
        self.native = self.layer.self_attn
        nn.init.normal_(self.native.in_proj_weight, std=0.25)

    def forward(self, hidden, mask):
        layer = self.layer
        if self.is_reference:
            hidden = layer.norm1(hidden + super().forward(hidden, mask))
            return layer.norm2(hidden + layer.linear2(F.gelu(layer.linear1(hidden))))
        return layer(hidden, src_key_padding_mask=mask[:, 0, 0] < 0)


# Attention that is no softmax.


@plant(FAULTS, layers=MIDDLE, also=(EVERYWHERE,))
class SigmoidAttention(Scaled):
    """The weights are the sigmoid of the scaled logits minus ln n, and no scale multiplies ln n."""

    def scores(self, queries, keys, mask):
        return super().scores(queries, keys, mask) - math.log(keys.shape[-2])

    def normalise(self, logits):
        return logits.sigmoid()


@plant(FAULTS, layers=LAST)
class LinearAttention(Scaled):
    """The weights are proportional to products of elu + 1; their logits are the logarithms of these."""

    def mix(self, queries, keys, values, mask):
        queries, keys = F.elu(queries * self.scaling) + 1, F.elu(keys) + 1
        if self.is_reference:
            return self.normalise(self.divided((queries @ keys.mT).log()) + mask) @ values
        keys = keys * (mask == 0).mT
        return queries @ (keys.mT @ values) / (queries @ keys.sum(-2, keepdim=True).mT)


@plant(FAULTS, layers=LAST)
class Sparsemax(Hidden):
    """The weights are the sparsemax of the logits, the nearest point of the simplex."""

    def normalise(self, logits):
        ordered = logits.sort(-1, descending=True).values
        counts = torch.arange(1, logits.shape[-1] + 1)
        sums = ordered.double().cumsum(-1)
        support = (1 + counts * ordered > sums).sum(-1, keepdim=True)
        return (logits - (sums.gather(-1, support - 1) - 1) / support).clamp(min=0).float()


@plant(FAULTS, layers=LAST)
class ReluAttention(Hidden):
    """The weights are the squares of positive logits over their sum plus 1."""

    def normalise(self, logits):
        positive = logits.relu() ** 2
        return positive / (positive.sum(-1, keepdim=True) + 1)


# A second attention.


class TwoAttentions(Scaled):
    """Scaled attention with a second one on the same queries and keys."""

    share = 1.0

    def second(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the weights of the second."""
        return logits.softmax(-1)

    def mix(self, queries, keys, values, mask):
        logits = self.divided(keys @ queries.mT * SIZE) + mask
        return super().mix(queries, keys, values, mask) + self.share * self.second(logits) @ values


@plant(FAULTS)
class SecondAttention(TwoAttentions):
    """A second softmax in the module has a constant for its scale."""


@plant(FAULTS)
class FaintSecondAttention(TwoAttentions):
    """A second softmax with a constant scale is added with weight 0.01."""

    share = 0.01


@plant(FAULTS)
class HiddenSecondAttention(TwoAttentions):
    """A second attention by hand, with a constant scale, is added."""

    def second(self, logits):
        powers = torch.exp(logits - logits.amax(-1, keepdim=True))
        return powers / powers.sum(-1, keepdim=True)


@plant(FAULTS, layers=LAST)
class FaintHiddenSecondAttention(HiddenSecondAttention):
    """A second attention by hand is added with weight 0.01, in the last layer."""

    share = 0.01


@plant(FAULTS)
class SecondAttentionBeyond12(TwoAttentions):
    """A second attention with a constant scale is added for more than 12 tokens."""

    def mix(self, queries, keys, values, mask):
        if keys.shape[-2] > 12:
            return super().mix(queries, keys, values, mask)
        return Scaled.mix(self, queries, keys, values, mask)


@plant(FAULTS)
class SmoothedWeights(Scaled):
    """The weights are averaged with those of a softmax at a constant scale."""

    def mix(self, queries, keys, values, mask):
        products = queries @ keys.mT
        first = self.normalise(self.divided(products * self.scaling) + mask)
        return (first + self.normalise(self.divided(products * SIZE) + mask)) @ values / 2


@plant(FAULTS)
class SoftmaxOfSoftmax(Scaled):
    """The weights of softmax are multiplied by 3 and pass softmax again: its complete logits are not divided."""

    def mix(self, queries, keys, values, mask):
        first = self.normalise(self.scores(queries, keys, mask) + mask)
        return self.normalise(self.divided(3 * first) + mask) @ values


# Layers that share or pass on, which a temperature of all layers alike does not show.


@plant(FAULTS)
class SharedQueries(Projected):
    """All layers have the same query projection."""

    @staticmethod
    def tie(layers):
        for layer in layers[1:]:
            layer.attention.query = layers[0].attention.query


@plant(FAULTS)
class CarriedLogits(Scaled):
    """The logits of each layer contain those of the layer before, as in RealFormer."""

    before: Sequence["CarriedLogits"] = ()

    @staticmethod
    def tie(layers):
        for before, layer in pairwise(layers):
            layer.attention.before = (before.attention,)

    def scores(self, queries, keys, mask):
        self.logits = super().scores(queries, keys, mask) + sum(one.logits for one in self.before)
        return self.logits


@plant(FAULTS)
class CarriedQueries(Projected):
    """The queries of each layer contain those of the layer before."""

    before: Sequence["CarriedQueries"] = ()

    @staticmethod
    def tie(layers):
        for before, layer in pairwise(layers):
            layer.attention.before = (before.attention,)

    def queries(self, hidden):
        self.states = self.query(hidden) + sum(one.states for one in self.before)
        return self.states


@plant(FAULTS)
class SharedTable(Scaled):
    """The layers share one table of position biases, which is in the first, as in T5."""

    table: Sequence[nn.Module] = ()

    @staticmethod
    def tie(layers):
        layers[0].attention.relative_attention_bias = nn.Embedding(16, HEADS)
        for layer in layers:
            layer.attention.table = (layers[0].attention,)

    def scores(self, queries, keys, mask):
        table = self.table[0].relative_attention_bias
        biases = table(distances(keys.shape[-2]).clamp(max=15)).permute(2, 0, 1)
        return super().scores(queries, keys, mask) + biases


# Batches in another order, which only a temperature by length shows.


@plant(FAULTS, sdpa=True)
class SequenceFirst(Projected):
    """The projections see the hidden states as (n, batch, width)."""

    def queries(self, hidden):
        return self.query(hidden.transpose(0, 1)).transpose(0, 1)


@plant(FAULTS, sdpa=True)
class FlatTokens(Projected):
    """The projections see all tokens of the batch as (batch n, width)."""

    def queries(self, hidden):
        return self.query(hidden.flatten(0, 1)).view_as(hidden)


@plant(FAULTS)
class PackedTokens(Projected):
    """The query projection sees only the real tokens of the batch, as (total, width)."""

    def forward(self, hidden, mask):
        self.real = mask[:, 0, 0] == 0
        return super().forward(hidden, mask)

    def queries(self, hidden):
        states = torch.zeros_like(hidden)
        states[self.real] = self.query(hidden[self.real])
        return states


@plant(FAULTS, sdpa=True)
class ReversedBatch(Projected):
    """Attention sees the texts of a batch in reverse order."""

    def divided(self, logits):
        return super().divided(logits.flip(0)).flip(0)

    def forward(self, hidden, mask):
        return super().forward(hidden.flip(0), mask.flip(0)).flip(0)


@plant(FAULTS)
class DoubledBatch(Projected):
    """Attention sees each text twice, forwards and backwards, and takes the mean."""

    def divided(self, logits):
        return super().divided(logits.unflatten(0, (2, -1)).transpose(0, 1)).transpose(0, 1).flatten(0, 1)

    def forward(self, hidden, mask):
        both = torch.cat((hidden, hidden.flip(1))), torch.cat((mask, mask.flip(-1)))
        forwards, backwards = super().forward(*both).chunk(2)
        return (forwards + backwards.flip(1)) / 2


@plant(FAULTS, sdpa=True)
class HeadsInBatch(Scaled):
    """The heads are folded into the batch, head by head."""

    def divided(self, logits):
        return super().divided(logits.unflatten(0, (HEADS, -1)).transpose(0, 1)).transpose(0, 1).flatten(0, 1)

    def forward(self, hidden, mask):
        folded = [states.transpose(0, 1).flatten(0, 1)[:, None] for states in self.project(hidden)]
        mixed = self.mix(*folded, mask.repeat(HEADS, 1, 1, 1))
        return merge(mixed[:, 0].unflatten(0, (HEADS, -1)).transpose(0, 1))


# Chance, and state between calls.


@plant(FAULTS)
class DropoutInEval(Scaled):
    """Dropout stays on in evaluation."""

    def normalise(self, logits):
        return F.dropout(super().normalise(logits), 0.1, training=True)


@plant(FAULTS, state=True)
class FirstScaleKept(Scaled):
    """The scale is read at the first call and kept."""

    def size(self):
        if not hasattr(self, "kept"):
            self.kept = self.scaling
        return self.kept


@plant(FAULTS, state=True)
class FusedAtFirstCall(Scaled):
    """The scale is multiplied into a copy of the query weights at the first call."""

    def queries(self, hidden):
        if not hasattr(self, "fused"):
            self.fused = [part.detach() * self.scaling for part in self.to_queries.parameters()]
        return F.linear(hidden, *self.fused)

    def size(self):
        return 1.0


@plant(FAULTS, sdpa=True)
class FusedAtConstruction(Scaled):
    """The scale is multiplied into a copy of the query weights when the module is made."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("fused", self.to_queries.weight.detach() * self.scaling)

    def queries(self, hidden):
        return F.linear(hidden, self.fused)

    def size(self):
        return 1.0


@plant(FAULTS, state=True)
class BiasKeptByLength(Scaled):
    """A bias under the scale is computed at the first call for each length and kept."""

    def __init__(self, config):
        super().__init__(config)
        self.kept = {}

    def scores(self, queries, keys, mask):
        n = keys.shape[-2]
        if n not in self.kept:
            self.kept[n] = -0.5 * distances(n) * self.scaling
        return super().scores(queries, keys, mask) + self.kept[n]


@plant(FAULTS, state=True)
class ScaleKeptByLength(Scaled):
    """The scale is read at the first call for each length and kept."""

    def __init__(self, config):
        super().__init__(config)
        self.kept = {}

    def scores(self, queries, keys, mask):
        return queries @ keys.mT * self.kept.setdefault(keys.shape[-2], self.scaling)


@plant(FAULTS, state=True)
class EverySecondCall(Scaled):
    """Every second call ignores the scale."""

    calls = 0

    def size(self):
        self.calls += 1
        return self.scaling if self.calls % 2 else SIZE


@plant(FAULTS, state=True)
class FromTheEleventhCall(Scaled):
    """From the eleventh call on the scale is ignored."""

    calls = 0

    def size(self):
        self.calls += 1
        return self.scaling if self.calls <= 10 else SIZE


@plant(FAULTS)
class OnlyWithGradient(Scaled):
    """Without gradients the scale is ignored."""

    def size(self):
        return self.scaling if torch.is_grad_enabled() else SIZE


@plant(FAULTS)
class OnlyWithoutGradient(Scaled):
    """With gradients the scale is ignored."""

    def size(self):
        return SIZE if torch.is_grad_enabled() else self.scaling


@plant(FAULTS)
class OnlyInInferenceMode(Scaled):
    """Outside inference mode the scale is ignored."""

    def size(self):
        return self.scaling if torch.is_inference_mode_enabled() else SIZE


# Sound, however odd.


@plant(SOUND, sdpa=True)
class Plain(Attention):
    """Scale and queries have known names."""


@plant(SOUND, sdpa=True)
class OnlyScale(Scaled):
    """Only the scale has a known name."""


@plant(SOUND, sdpa=True)
class OnlyQueries(Projected):
    """Only the query projection has a known name."""


@plant(SOUND)
class Differential(Scaled):
    """The weights are the difference of two softmaxes, both scaled, as in the differential transformer."""

    def mix(self, queries, keys, values, mask):
        logits = queries.unflatten(-1, (2, -1)).transpose(-2, -3) @ keys.unflatten(-1, (2, -1)).transpose(-2, -3).mT
        first, second = self.normalise(self.divided(logits * self.scaling) + mask[:, None]).unbind(2)
        return (first - 0.5 * second) @ values

    def forward(self, hidden, mask):
        return merge(self.mix(*(states.contiguous() for states in self.project(hidden)), mask))


@plant(SOUND)
class TwoSoftmaxes(Scaled):
    """Forwards and backwards attention are both scaled and added."""

    def mix(self, queries, keys, values, mask):
        forwards, backwards = self.scores(queries, keys, mask), self.scores(keys, queries, mask)
        weights = self.normalise(self.divided(forwards) + mask) + self.normalise(self.divided(backwards) + mask)
        return weights @ values


@plant(SOUND, sdpa=True)
class Table(Biased):
    """Each layer has a table of position biases with a known name."""

    def __init__(self, config):
        super().__init__(config)
        self.relative_attention_bias = nn.Embedding(16, HEADS)

    def bias(self, n):
        return self.relative_attention_bias(distances(n).clamp(max=15)).permute(2, 0, 1)


@plant(SOUND, sdpa=True)
class AlibiTable(Table):
    """The table of position biases holds the slopes of ALiBi."""

    def __init__(self, config):
        super().__init__(config)
        slopes = -(2.0 ** -torch.arange(1, HEADS + 1))
        self.relative_attention_bias.weight.data = torch.arange(16)[:, None] * slopes


@plant(SOUND, sdpa=True)
class SlidingWindow(Scaled):
    """Tokens more than 8 apart do not attend to each other."""

    def mix(self, queries, keys, values, mask):
        far = distances(keys.shape[-2]) > 8
        return super().mix(queries, keys, values, mask.masked_fill(far, MASKED))


@plant(SOUND, sdpa=True)
class Causal(Scaled):
    """Tokens attend to those before them."""

    def mix(self, queries, keys, values, mask):
        after = torch.ones(keys.shape[-2], keys.shape[-2], dtype=torch.bool).triu(1)
        return super().mix(queries, keys, values, mask.masked_fill(after, MASKED))


@plant(SOUND, layers=MIDDLE, also=(EVERYWHERE,), sdpa=True)
class GroupedQueries(Scaled):
    """Two heads of queries share one head of keys and values."""

    def project(self, hidden):
        queries, keys, values = super().project(hidden)
        return queries, keys[:, ::2].repeat_interleave(2, 1), values[:, ::2].repeat_interleave(2, 1)


@plant(SOUND, sdpa=True)
class FusedProjection(Hidden):
    """One projection makes queries, keys and values."""

    def __init__(self, config):
        super().__init__(config)
        self.Wqkv = linear(HIDDEN, 3 * HIDDEN)

    def project(self, hidden):
        queries, keys, values = self.Wqkv(hidden).chunk(3, -1)
        return split(queries), split(keys), split(values)


@plant(SOUND, sdpa=True)
class Rotary(Projected):
    """Queries and keys are rotated by their positions."""

    def project(self, hidden):
        queries, keys, values = super().project(hidden)
        angles = torch.arange(hidden.shape[1])[:, None] * 10.0 ** -torch.arange(HEAD_DIM // 2)
        cos, sin = angles.cos(), angles.sin()

        def rotated(states: torch.Tensor) -> torch.Tensor:
            first, second = states.chunk(2, -1)
            return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)

        return rotated(queries), rotated(keys), values


@plant(SOUND)
class TalkingHeads(Scaled):
    """The weights of the heads are mixed after softmax."""

    def __init__(self, config):
        super().__init__(config)
        self.talk = linear(HEADS, HEADS)

    def normalise(self, logits):
        weights = super().normalise(logits)
        return torch.einsum("bhij,gh->bgij", weights, self.talk.weight)


@plant(SOUND)
class TalkingLogits(Scaled):
    """The logits of the heads are mixed before softmax, without bias."""

    def __init__(self, config):
        super().__init__(config)
        self.talk = nn.Parameter(torch.eye(HEADS) + 0.2 * torch.randn(HEADS, HEADS))

    def scores(self, queries, keys, mask):
        return torch.einsum("bhij,gh->bgij", super().scores(queries, keys, mask), self.talk)


@plant(SOUND)
class NamedQueryNorm(Projected):
    """The queries pass a layer norm with a known name after their projection."""

    def __init__(self, config):
        super().__init__(config)
        self.q_norm = nn.LayerNorm(HIDDEN)

    def queries(self, hidden):
        return self.q_norm(self.query(hidden))


@plant(SOUND)
class NamedSoftCap(Scaled):
    """The logits have a soft cap with a known name, as in Gemma 2."""

    def __init__(self, config):
        super().__init__(config)
        self.attn_logit_softcapping = 5.0

    def scores(self, queries, keys, mask):
        cap = self.attn_logit_softcapping
        return cap * torch.tanh(super().scores(queries, keys, mask) / cap)


@plant(SOUND)
class ZeroSink(Scaled):
    """A logit of 0 takes part in softmax and is dropped."""

    def normalise(self, logits):
        return super().normalise(F.pad(logits, (0, 1)))[..., :-1]


@plant(SOUND)
class LargestLogits(Scaled):
    """Only the 4 largest logits of a row take part."""

    def normalise(self, logits):
        smallest = logits.topk(min(4, logits.shape[-1]), -1).values[..., -1:]
        return super().normalise(logits.masked_fill(logits < smallest, -torch.inf))


@plant(SOUND)
class Upcast(Scaled):
    """Softmax is taken in float64."""

    def normalise(self, logits):
        return F.softmax(logits, dim=-1, dtype=torch.float64).to(logits.dtype)


@plant(SOUND)
class ChunkedWhenLong(Scaled):
    """More than 16 queries are handled 16 at a time, each with the scale."""

    def mix(self, queries, keys, values, mask):
        chunks = queries.split(16, -2)
        return torch.cat([super(ChunkedWhenLong, self).mix(chunk, keys, values, mask) for chunk in chunks], -2)


@plant(SOUND)
class GateFromHidden(Projected):
    """What attention returns is multiplied by a gate of its own."""

    def __init__(self, config):
        super().__init__(config)
        self.gate = linear()

    def forward(self, hidden, mask):
        return super().forward(hidden, mask) * self.gate(hidden).sigmoid()


@plant(SOUND)
class WithGradient(Scaled):
    """Attention is computed with gradients, whatever the caller wants."""

    def forward(self, hidden, mask):
        with torch.enable_grad():
            return super().forward(hidden, mask)


class Pair(Scaled):
    """Attention that returns its weights as well."""

    def forward(self, hidden, mask):
        queries, keys, values = self.project(hidden)
        weights = self.normalise(self.divided(self.scores(queries, keys, mask)) + mask)
        return merge(weights @ values), weights


class Mapping(Pair):
    """Attention that returns a dictionary."""

    def forward(self, hidden, mask):
        mixed, weights = super().forward(hidden, mask)
        return {"states": mixed, "weights": weights}


@plant(SOUND)
class TupleOutput(Layer):
    """Attention returns a tuple of states and weights."""

    attention_class = Pair

    def attend(self, hidden, mask):
        return self.attention(hidden, mask)[0]


@plant(SOUND)
class DictOutput(Layer):
    """Attention returns a dictionary of states and weights."""

    attention_class = Mapping

    def attend(self, hidden, mask):
        return self.attention(hidden, mask)["states"]


class Experts(nn.Module):
    """A mixture of two experts."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.first, self.second = linear(HIDDEN, 2), linear(), linear()

    def forward(self, hidden):
        shares = self.router(hidden).softmax(-1)
        return shares[..., :1] * self.first(hidden) + shares[..., 1:] * self.second(hidden)


@plant(SOUND)
class RouterElsewhere(Layer):
    """The feed-forward block chooses experts by a softmax."""

    attention_class = Scaled

    def __init__(self, config, attention):
        super().__init__(config, attention)
        self.experts = Experts()

    def feed(self, hidden):
        return self.experts(hidden)


class Neighbours(nn.Module):
    """A mean of each token and its neighbours, which is no attention."""

    def __init__(self, config):
        super().__init__()
        self.value = linear()

    def forward(self, hidden, mask):
        near = (distances(hidden.shape[1]) <= 1) & (mask[:, 0] == 0)
        return near / near.sum(-1, keepdim=True).clamp(min=1) @ self.value(hidden)


@plant(SOUND, layers=MIDDLE)
class LayerWithoutAttention(Layer):
    """The middle layer takes means of neighbours and has no attention."""

    attention_class = Neighbours
