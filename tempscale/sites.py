"""Find where the logits of a model's attention get their size.

softmax(S / tau) needs the complete logit S divided by tau. A site is one place inside the model that S is proportional to,
so dividing there does the job in every backend and without touching masks. Which modules compute attention is not guessed
from names: a small padded batch is run while every softmax is recorded. That a site found is the right one is not believed
either: the same batch, with the logits divided inside softmax itself, is the oracle that it must reproduce.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from tempscale.recorder import Recorder, UnsupportedModelError, find_transformer, probe_batch, probing

# What transformers' attention modules multiply q·k by, and where they have no such number, the projection that makes q.
SCALES = ("scaling", "scale")
QUERIES = ("query", "q_proj", "q_lin", "q")
# Marks a module whose logits are divided. In the module, so that copies and pickles know it too.
MARK = "_tempscale_temperature"

_PROBE_TEMPERATURE = 0.25


@dataclass
class ScaleSite:
    """A scale attribute of an attention module."""

    name: str
    module: nn.Module = field(repr=False)
    attribute: str
    original: float

    def set(self, temperature: float) -> None:
        """Divide the logits of this module by a temperature."""
        setattr(self.module, MARK, temperature)
        setattr(self.module, self.attribute, self.original / temperature)

    def restore(self) -> None:
        """Put the original number back, bit for bit."""
        setattr(self.module, self.attribute, self.original)
        if hasattr(self.module, MARK):
            delattr(self.module, MARK)


class TemperedLinear(nn.Linear):
    """A linear layer whose output is divided by a temperature.

    A class of its own and no hook: that survives copies, pickles and compilation, and keeps the names of the weights.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (the base class's name)
        """Return (x Wᵀ + b) / temperature."""
        temperature: float = getattr(self, MARK)
        return super().forward(input) / temperature


@dataclass
class QuerySite:
    """The projection that makes the queries of an attention module without a scale attribute."""

    name: str
    module: nn.Module = field(repr=False)
    attribute: str

    @property
    def _linear(self) -> nn.Module:
        return self.module.get_submodule(self.attribute)

    def set(self, temperature: float) -> None:
        """Divide the queries of this module by a temperature."""
        setattr(self._linear, MARK, temperature)
        self._linear.__class__ = TemperedLinear

    def restore(self) -> None:
        """Make it the plain linear layer again."""
        self._linear.__class__ = nn.Linear
        if hasattr(self._linear, MARK):
            delattr(self._linear, MARK)


Site = ScaleSite | QuerySite


def find_sites(model: nn.Module) -> list[Site]:
    """Return the verified sites of a model, in the order in which its forward pass meets them.

    Args:
        model: a transformers model, or any module around one (such as a SentenceTransformer). Left as it was.

    Raises:
        UnsupportedModelError: no transformers model inside, no softmax attention, attention without a scale to divide,
            or sites that fail the comparison with the oracle. The message names the class and what can be done.
    """
    transformer = find_transformer(model)
    batch = probe_batch(transformer)
    with probing(transformer, implementation="eager"):
        recorder = Recorder(transformer)
        recorder.run(batch)
        sites = [_site(transformer, module) for module in recorder.attention]
        if not sites:
            raise UnsupportedModelError(
                f"no temperature site in {type(transformer).__name__}: its forward pass has no softmax attention; "
                "use a model with softmax attention"
            )
        plain = {site.name: recorder.replay(site.module) for site in sites}
        recorder.temperature = _PROBE_TEMPERATURE
        oracle = {site.name: recorder.replay(site.module) for site in sites}
    with probing(transformer):
        recorder = Recorder(transformer)
        recorder.run(batch)
        for site in sites:
            _verify(site, recorder, plain[site.name], oracle[site.name])
    return sites


def _site(transformer: nn.Module, module: nn.Module) -> Site:
    """Return the one candidate of an attention module."""
    name = next(name for name, candidate in transformer.named_modules() if candidate is module)
    scales = [key for key in SCALES if isinstance(getattr(module, key, None), float)]
    if len(scales) == 1:
        return ScaleSite(name, module, scales[0], getattr(module, scales[0]))
    queries = [key for key in QUERIES if type(getattr(module, key, None)) is nn.Linear]
    if not scales and len(queries) == 1:
        return QuerySite(name, module, queries[0])
    raise UnsupportedModelError(
        f"no temperature site in {type(module).__name__} ({name}) of {type(transformer).__name__}: it computes attention "
        f"but has neither one scale attribute ({', '.join(SCALES)}) nor one linear query projection "
        f"({', '.join(QUERIES)}); supported is attention like that of transformers' BERT family"
    )


def _verify(site: Site, recorder: Recorder, plain: torch.Tensor, oracle: torch.Tensor) -> None:
    """Compare the module's own attention, with the site set, against the oracle; leave the site as it was."""
    rounding = (recorder.replay(site.module) - plain).abs().max().item()
    try:
        site.set(_PROBE_TEMPERATURE)
        error = (recorder.replay(site.module) - oracle).abs().max().item()
    finally:
        site.restore()
    effect = (oracle - plain).abs().max().item()
    # A patch without effect has error == effect; a right one differs by rounding, like two backends of one model.
    if not error <= max(0.02 * effect, 4 * rounding) or effect <= 8 * rounding:
        raise UnsupportedModelError(
            f"dividing {site.attribute} of {type(site.module).__name__} ({site.name}) is not softmax(S / temperature): the "
            f"output is off by {error:.2g} where a temperature moves it by {effect:.2g}, rounding by {rounding:.2g}; "
            "load the model in float32, or use one with attention like that of transformers' BERT family"
        )
