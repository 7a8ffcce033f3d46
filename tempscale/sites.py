"""Find where the logits of a model's attention get their size.

softmax(S / tau) needs the complete logit S divided by tau. A site is one number inside the model that S is proportional
to, so dividing it does the job in every backend, at no cost, and without touching masks. Which modules compute
attention is not guessed from names: a small padded batch is run while every softmax is recorded. That the sites found
are the right ones is not believed either: the same batch, with every softmax replaced by softmax(x / tau), is the
oracle that the sites must reproduce.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

# Attributes that transformers' attention modules multiply the dot product q·k by.
SCALE_ATTRIBUTES = ("scaling", "scale")
# Marks a module whose scale is divided; holds the original. In the module, so that copies and pickles know it too.
MARK = "_tempscale_original"

_SOFTMAXES = (F.softmax, torch.softmax, torch.Tensor.softmax)
_PROBE_TEMPERATURE = 0.25


class UnsupportedModelError(ValueError):
    """The model has no place where a temperature would provably do what it says."""


@dataclass
class Site:
    """A scale attribute of one attention module: the complete logit is proportional to it."""

    name: str
    module: nn.Module = field(repr=False)
    attribute: str
    original: float

    def set(self, temperature: float) -> None:
        """Divide the logits of this module by a temperature."""
        setattr(self.module, MARK, self.original)
        setattr(self.module, self.attribute, self.original / temperature)

    def restore(self) -> None:
        """Put the original number back, bit for bit."""
        setattr(self.module, self.attribute, self.original)
        if hasattr(self.module, MARK):
            delattr(self.module, MARK)


def find_sites(model: nn.Module) -> list[Site]:
    """Return the verified sites of a model, in the order in which its forward pass meets them.

    Args:
        model: a transformers model, or any module around one (such as a SentenceTransformer). Left as it was.

    Raises:
        UnsupportedModelError: no transformers model inside, no softmax attention, attention without a scale to divide,
            or sites that fail the comparison with the oracle. The message names the class and what can be done.
    """
    transformer = _transformer(model)
    batch = _probe_batch(transformer)
    with _probing(transformer, implementation="eager"):
        recorder = _Recorder(transformer)
        recorder.run(batch)
        sites = [_site(transformer, module) for module in recorder.softmaxes]
        if not sites:
            raise UnsupportedModelError(
                f"no temperature site in {type(transformer).__name__}: its forward pass has no softmax attention; "
                "use a model with softmax attention"
            )
        plain = {site.name: recorder.replay(site.module) for site in sites}
        recorder.temperature = _PROBE_TEMPERATURE
        oracle = {site.name: recorder.replay(site.module) for site in sites}
    with _probing(transformer):
        recorder = _Recorder(transformer)
        recorder.run(batch)
        for site in sites:
            _verify(site, recorder, plain[site.name], oracle[site.name])
    return sites


def _transformer(model: nn.Module) -> nn.Module:
    """Return the outermost transformers model."""
    from transformers import PreTrainedModel

    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch module, not {type(model).__name__}: pass the loaded model")
    found: nn.Module | None = next((m for m in model.modules() if isinstance(m, PreTrainedModel)), None)
    if found is None:
        raise UnsupportedModelError(
            f"no temperature site in {type(model).__name__}: there is no transformers model inside; "
            "pass a transformers model or a SentenceTransformer that holds one"
        )
    return found


@contextmanager
def _probing(transformer: nn.Module, implementation: str | None = None) -> Iterator[None]:
    """Inference in evaluation mode, with an attention implementation other than the model's own; all put back after."""
    training = {module: module.training for module in transformer.modules()}
    configs = _configs(transformer)
    before = {key: config._attn_implementation for key, config in configs.items()}
    try:
        transformer.eval()
        if implementation is not None:
            for config in configs.values():
                config._attn_implementation = implementation
        with torch.inference_mode():
            yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]
        for module, flag in training.items():
            module.training = flag


def _configs(transformer: nn.Module) -> dict[int, Any]:
    """Return the distinct configurations inside a model, those of its parts included."""
    configs = (getattr(module, "config", None) for module in transformer.modules())
    return {id(config): config for config in configs if hasattr(config, "_attn_implementation")}


def _probe_batch(transformer: nn.Module) -> dict[str, torch.Tensor]:
    """Return two texts of 8 and 5 tokens, padded."""
    config: Any = transformer.config
    ids = 5 + (11 * torch.arange(16).reshape(2, 8)) % (config.vocab_size - 5)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    padding = getattr(config, "pad_token_id", None)
    ids[1, 5:] = 0 if padding is None else padding
    device = next(transformer.parameters()).device
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


class _Recorder(TorchFunctionMode):
    """Run a model, remember which modules call softmax and how they were called, and call them again.

    While it is the active mode, the input of every softmax is divided by `temperature`.
    """

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.temperature = 1.0
        self.softmaxes: dict[nn.Module, None] = {}  # in the order of the first call
        self._calls: dict[nn.Module, tuple[Any, Any]] = {}
        self._stack: list[nn.Module] = []

    def run(self, batch: dict[str, torch.Tensor]) -> None:
        """Run the model once, recording."""
        with ExitStack() as hooks:
            for module in self.transformer.modules():
                hooks.callback(module.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
                hooks.callback(module.register_forward_hook(self._leave).remove)
            try:
                with self:
                    self.transformer(**batch)
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                raise UnsupportedModelError(
                    f"{type(self.transformer).__name__} cannot be probed with input_ids and attention_mask alone "
                    f"({error}); pass the text encoder inside it"
                ) from error

    def replay(self, module: nn.Module) -> torch.Tensor:
        """Call a module as the model called it, and return its first output in float32."""
        args, kwargs = self._calls[module]
        with self:
            output = module(*args, **kwargs)
        return (output if isinstance(output, torch.Tensor) else output[0]).float()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._stack.append(module)
        self._calls.setdefault(module, (args, kwargs))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _SOFTMAXES:
            return func(*args, **kwargs)
        if self._stack:
            self.softmaxes[self._stack[-1]] = None
        logits, *rest = args
        # The row maximum goes first: a mask filled with the smallest float must not overflow to minus infinity.
        shifted = logits - logits.amax(rest[0] if rest else kwargs["dim"], keepdim=True)
        return func(shifted / self.temperature, *rest, **kwargs)


def _site(transformer: nn.Module, module: nn.Module) -> Site:
    name = next(name for name, candidate in transformer.named_modules() if candidate is module)
    scales = [key for key in SCALE_ATTRIBUTES if isinstance(getattr(module, key, None), float)]
    if len(scales) != 1:
        raise UnsupportedModelError(
            f"no temperature site in {type(module).__name__} ({name}) of {type(transformer).__name__}: it calls "
            f"softmax but has no single scale attribute ({' or '.join(SCALE_ATTRIBUTES)}); "
            "supported is attention with one, such as that of transformers' BERT family"
        )
    return Site(name, module, scales[0], getattr(module, scales[0]))


def _verify(site: Site, recorder: _Recorder, plain: torch.Tensor, oracle: torch.Tensor) -> None:
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
            f"{site.attribute} of {type(site.module).__name__} ({site.name}) does not divide the complete logit: the "
            f"output is off by {error:.2g} where a temperature moves it by {effect:.2g}, rounding by {rounding:.2g}; "
            "load the model in float32, or use one with attention like that of transformers' BERT family"
        )
