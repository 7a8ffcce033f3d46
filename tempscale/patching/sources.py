"""Where the logits of a model's attention get their size.

softmax(S / tau) needs the complete logit S divided by tau. A site is one attention module with its sources: the numbers, and
the modules' outputs, that S is proportional to. Dividing them does the job in every backend, costs nothing and leaves masks
alone. Here are the names under which models keep them; `proof` finds out whether they are right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from tempscale.patching.exchange import Temperature, TemperedAttention, TemperedOutput, TemperedTable, exchange, restore
from tempscale.patching.schedules import Kind

# The attribute of an attention module whose logits are divided, whoever divides them: its site, so that a copy of the module
# can be restored, too, or True where the weights are divided for good.
TEMPERED = "_tempscale_is_tempered"

# Numbers that attention modules multiply their logits by, and a soft cap c tanh(S / c), which scales with them.
SCALES = ("scaling", "scale", "softmax_scale", "inv_norm_factor", "attn_logit_softcapping")
# What makes their queries. A normalisation after the projection would undo a factor before it, so it comes first.
QUERIES = ("q_norm", "q_layernorm", "query", "q_proj", "q_lin", "q", "query_proj")
# Queries of other terms of the logits: Longformer's global attention, DeBERTa's positions.
MORE_QUERIES = ("query_global", "pos_query_proj", "pos_q_proj")
# Projections to queries, keys and values at once, as (..., groups, 3, width): one group, or one for each head.
FUSED = {"Wqkv": False, "qkv_proj": False, "in_proj": True, "query_key_value": True}
# Tables of position biases, in the attention module or, shared, elsewhere in the model.
TABLES = ("relative_attention_bias", "global_relative_attention_bias")
# The exceptions: Bloom's factor of ALiBi; logits that no number and no output carries alone, since a bias is added to the
# queries of a fused projection (DeBERTa v1) or to the logits (MPT's ALiBi).
MORE_SCALES = {"BloomAttention": ("beta",)}
INSIDE = ("DisentangledSelfAttention", "MptAttention")


class Source(Protocol):
    """What the logits are proportional to."""

    attribute: str

    def set(self, temperature: Temperature) -> None:
        """Divide it by a temperature, whatever temperature it had."""

    def restore(self) -> None:
        """Put the original back, bit for bit."""


@dataclass
class NumberSource:
    """An attribute of an attention module (or of a configuration) that its logits are proportional to."""

    module: Any = field(repr=False)
    attribute: str
    original: float

    def set(self, temperature: Temperature) -> None:
        """Divide the number; it cannot differ between the sequences of a batch."""
        assert isinstance(temperature, float)
        setattr(self.module, self.attribute, self.original / temperature)

    def restore(self) -> None:
        """Put the original back, bit for bit."""
        setattr(self.module, self.attribute, self.original)


@dataclass
class OutputSource:
    """A projection, normalisation or table whose output the logits are proportional to."""

    module: nn.Module = field(repr=False)
    attribute: str
    groups: int | None = None

    def set(self, temperature: Temperature) -> None:
        """Divide the output."""
        mixin = TemperedTable if isinstance(self.module, nn.Embedding) else TemperedOutput
        exchange(self.module, mixin, temperature, groups=self.groups)

    def restore(self) -> None:
        """Make it the plain module again."""
        restore(self.module)


@dataclass
class SoftmaxSource:
    """The attention module itself, whose softmax is made to divide."""

    module: nn.Module = field(repr=False)
    attribute: str = "softmax"

    def set(self, temperature: Temperature) -> None:
        """Divide inside softmax."""
        exchange(self.module, TemperedAttention, temperature)

    def restore(self) -> None:
        """Make it the plain module again."""
        restore(self.module)


@dataclass
class Site:
    """An attention module and the sources of its logits."""

    name: str
    layer: int
    module: nn.Module = field(repr=False)
    sources: Sequence[Source]

    def modules(self) -> list[nn.Module]:
        """Return the attention module, and those that its sources are."""
        return [self.module, *(source.module for source in self.sources if isinstance(source, OutputSource))]

    def set(self, temperature: Temperature) -> None:
        """Divide the logits of this module by a temperature."""
        vars(self.module)[TEMPERED] = self
        for source in self.sources:
            source.set(temperature)

    def restore(self) -> None:
        """Restore the module bit for bit."""
        for source in self.sources:
            source.restore()
        vars(self.module).pop(TEMPERED, None)


def restore_all(model: nn.Module) -> None:
    """Restore every attention module in a model that has a temperature of a patch, copies included."""
    for module in list(model.modules()):
        site = vars(module).get(TEMPERED)
        if isinstance(site, Site):
            site.restore()


# Sources for each of several attention modules.
Candidate = list[Sequence[Source]]


def uniform_candidates(transformer: Any, modules: list[nn.Module]) -> Iterator[Candidate]:
    """Propose sources of all attention modules for one temperature, the cheapest first."""
    yield [number_sources(module, transformer) or output_sources(module, transformer) for module in modules]
    yield [output_sources(module, transformer) for module in modules]
    if all(type(module).__name__ in INSIDE for module in modules):
        yield [[SoftmaxSource(module)] for module in modules]


def candidates_for(transformer: Any, modules: list[nn.Module], kind: Kind, only_softmax: bool) -> Iterator[Candidate]:
    """Propose sources where a uniform temperature is known to be possible: for some layers, or for other kinds.

    Args:
        transformer: model.
        modules: its attention modules.
        kind: kind of temperature; numbers cannot have one per sequence.
        only_softmax: whether nothing but softmax itself will do.
    """
    if not only_softmax:
        if kind != "per sequence":
            yield [number_sources(module, transformer) or output_sources(module, transformer) for module in modules]
        yield [output_sources(module, transformer) for module in modules]
    yield [[SoftmaxSource(module)] for module in modules]


def number_sources(module: nn.Module, transformer: Any) -> list[Source]:
    """Return the numbers of an attention module, with its tables; none if it has none."""
    names = (*SCALES, *MORE_SCALES.get(type(module).__name__, ()))
    found = [
        NumberSource(module, name, getattr(module, name))
        for name in names
        if isinstance(getattr(module, name, None), float)
        and not isinstance(getattr(type(module), name, None), property)
    ]
    return [*found, *_tables(module, transformer)] if found else []


def output_sources(module: nn.Module, transformer: Any) -> list[OutputSource]:
    """Return what makes the queries of an attention module, with its tables; none if it has none."""
    children = dict(module.named_children())
    queries = [OutputSource(children[name], name) for name in QUERIES if name in children][:1]
    if not queries:
        heads = transformer.config.get_text_config().num_attention_heads
        fused = ((name, heads if by_head else 1) for name, by_head in FUSED.items() if name in children)
        queries = [OutputSource(children[name], name, groups) for name, groups in fused]
    more = [OutputSource(children[name], name) for name in MORE_QUERIES if name in children]
    return queries + more + _tables(module, transformer) if queries else []


def _tables(module: nn.Module, transformer: nn.Module) -> list[OutputSource]:
    """Return the tables of position biases that an attention module uses: its own, or those that the model shares."""
    own = [OutputSource(child, name) for name, child in module.named_children() if name in TABLES]
    everywhere = ((name.rpartition(".")[2], child) for name, child in transformer.named_modules())
    return own or [OutputSource(child, name) for name, child in everywhere if name in TABLES]
