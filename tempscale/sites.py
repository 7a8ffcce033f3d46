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
    with _probing(transformer):
        batch = _probe_batch(transformer)
        plain, callers = _run_with_softmax_temperature(transformer, batch, 1.0)
        sites = [_site(transformer, module, calls) for module, calls in callers.items()]
        if not sites:
            raise UnsupportedModelError(
                f"no temperature site in {type(transformer).__name__}: its forward pass has no softmax attention; "
                "use a model with softmax attention"
            )
        oracle, _ = _run_with_softmax_temperature(transformer, batch, _PROBE_TEMPERATURE)
    with _probing(transformer, implementation=None):
        _verify(transformer, sites, batch, plain, oracle)
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
def _probing(transformer: nn.Module, implementation: str | None = "eager") -> Iterator[None]:
    """Inference in evaluation mode, by default with the attention that shows its softmax, and all put back after."""
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


def _output(transformer: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the first output at the real tokens, in float32."""
    try:
        first: torch.Tensor = transformer(**batch)[0]
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedModelError(
            f"{type(transformer).__name__} cannot be probed with input_ids and attention_mask alone ({error}); "
            "pass the text encoder inside it"
        ) from error
    return first[batch["attention_mask"].bool()].float() if first.ndim == 3 else first.float()


class _SoftmaxTemperature(TorchFunctionMode):
    """Divide the input of every softmax by a temperature, and remember which module asked for it."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.stack: list[nn.Module] = []
        self.callers: dict[nn.Module, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _SOFTMAXES or not self.stack:
            return func(*args, **kwargs)
        self.callers[self.stack[-1]] = self.callers.get(self.stack[-1], 0) + 1
        logits, *rest = args
        # The row maximum goes first: a mask filled with the smallest float must not overflow to minus infinity.
        dim = rest[0] if rest else kwargs["dim"]
        shifted = (logits - logits.amax(dim, keepdim=True)) / self.temperature
        return func(shifted, *rest, **kwargs)


def _run_with_softmax_temperature(
    transformer: nn.Module, batch: dict[str, torch.Tensor], temperature: float
) -> tuple[torch.Tensor, dict[nn.Module, int]]:
    """Return the output with softmax(x / temperature) for every softmax, and how often each module calls one."""
    mode = _SoftmaxTemperature(temperature)

    def enter(module: nn.Module, args: Any) -> None:
        mode.stack.append(module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        mode.stack.pop()

    with ExitStack() as hooks:
        for module in transformer.modules():
            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        with mode:
            return _output(transformer, batch), mode.callers


def _site(transformer: nn.Module, module: nn.Module, calls: int) -> Site:
    name = next(name for name, candidate in transformer.named_modules() if candidate is module)
    scales = [key for key in SCALE_ATTRIBUTES if isinstance(getattr(module, key, None), float)]
    if len(scales) != 1:
        raise UnsupportedModelError(
            f"no temperature site in {type(module).__name__} ({name}) of {type(transformer).__name__}: it "
            f"calls softmax {calls} time(s) but has no single scale attribute ({' or '.join(SCALE_ATTRIBUTES)}); supported are "
            "attention modules of transformers with one, such as those of the BERT family"
        )
    return Site(name, module, scales[0], getattr(module, scales[0]))


def _verify(
    transformer: nn.Module,
    sites: list[Site],
    batch: dict[str, torch.Tensor],
    plain: torch.Tensor,
    oracle: torch.Tensor,
) -> None:
    """Compare the model's own attention, with the sites set, against the oracle; leave the sites as they were."""
    floor = (_output(transformer, batch) - plain).abs().max().item()
    try:
        for site in sites:
            site.set(_PROBE_TEMPERATURE)
        error = (_output(transformer, batch) - oracle).abs().max().item()
    finally:
        for site in sites:
            site.restore()
    effect = (oracle - plain).abs().max().item()
    # A patch without effect has error == effect; a right one differs by rounding, like two backends of one model.
    if not error <= max(0.02 * effect, 4 * floor) or effect <= 8 * floor:
        raise UnsupportedModelError(
            f"the temperature sites of {type(transformer).__name__} do not reproduce softmax(logits / temperature): "
            f"error {error:.2g} on outputs that the temperature moves by {effect:.2g} (rounding: {floor:.2g}); "
            "load the model in float32, or use one whose attention is that of transformers' BERT family"
        )
