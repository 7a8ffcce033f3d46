"""Run a model on a small padded batch, and see which of its modules compute attention, and what a temperature does there.

This is the oracle that temperature sites must reproduce: the logits are divided inside softmax itself, whatever the model
did to make them.
"""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

_SOFTMAXES = (F.softmax, torch.softmax, torch.Tensor.softmax)


class UnsupportedModelError(ValueError):
    """The model has no place where a temperature would provably do what it says."""


def find_transformer(model: nn.Module) -> nn.Module:
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
def probing(transformer: nn.Module, implementation: str | None = None) -> Iterator[None]:
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


def probe_batch(transformer: nn.Module) -> dict[str, torch.Tensor]:
    """Return two texts of 8 and 5 tokens, padded."""
    config: Any = transformer.config
    ids = 5 + (11 * torch.arange(16).reshape(2, 8)) % (config.vocab_size - 5)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    padding = getattr(config, "pad_token_id", None)
    ids[1, 5:] = 0 if padding is None else padding
    device = next(transformer.parameters()).device
    batch = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
    # Not every model knows padding: FNet mixes all positions.
    accepted = inspect.signature(transformer.forward).parameters
    return {name: value for name, value in batch.items() if name in accepted or "kwargs" in accepted}


class Recorder(TorchFunctionMode):
    """Run a model, remember which modules compute attention and how they were called, and call them again.

    Attention is what calls softmax, or torch's scaled_dot_product_attention. While this is the active mode, the complete
    logits of both are divided by `temperature`.
    """

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.temperature = 1.0
        self.attention: dict[nn.Module, None] = {}  # in the order of the first call
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
        tempered = _softmax if func in _SOFTMAXES else _sdpa if func is F.scaled_dot_product_attention else None
        if tempered is None:
            return func(*args, **kwargs)
        if self._stack:
            self.attention[self._stack[-1]] = None
        return tempered(func, self.temperature, *args, **kwargs)


def _softmax(func: Any, temperature: float, logits: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    # The row maximum goes first: a mask filled with the smallest float must not overflow to minus infinity.
    shifted = logits - logits.amax(args[0] if args else kwargs["dim"], keepdim=True)
    result: torch.Tensor = func(shifted / temperature, *args, **kwargs)
    return result


def _sdpa(
    func: Any,
    temperature: float,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    if attn_mask is not None and attn_mask.is_floating_point():
        attn_mask = (attn_mask / temperature).clamp(min=torch.finfo(attn_mask.dtype).min)
    scale = (query.shape[-1] ** -0.5 if scale is None else scale) / temperature
    result: torch.Tensor = func(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **kwargs)
    return result
