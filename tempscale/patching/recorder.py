"""Run a model on a small padded batch and record the logits of its attention.

What a module must do with a temperature is known from here: the same run, with the logits divided inside softmax itself,
whatever the model did to make them.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from tempscale.patching.exchange import SDPA, SOFTMAXES, divided_sdpa, divided_softmax

# A kernel that a user insists on may not take the padding of the probe; which one runs is no concern of a temperature.
_KERNELS: list[SDPBackend] = [kernel for kernel in SDPBackend.__members__.values() if kernel is not SDPBackend.ERROR]


class UnsupportedModelError(ValueError):
    """The model has no place where a temperature would provably do what it says."""


def find_transformer(model: nn.Module) -> Any:
    """Return the outermost transformers model, or its text encoder where it is one of texts and images."""
    from transformers import PreTrainedModel

    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch module, not {type(model).__name__}: pass the loaded model")
    towers: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in model.modules():  # what is around comes before what is inside
        if isinstance(module, PreTrainedModel) and module not in inside:
            towers.append(module)
            inside.update(module.modules())
    if not towers:
        raise UnsupportedModelError(
            f"no temperature site in {type(model).__name__}: there is no transformers model inside; "
            "pass a transformers model or a SentenceTransformer that holds one"
        )
    if len(towers) > 1:
        raise UnsupportedModelError(
            f"{type(model).__name__} holds {len(towers)} transformers models, "
            f"{', '.join(type(tower).__name__ for tower in towers)}, and a temperature in one of them is half a "
            "temperature: pass each by itself"
        )
    (found,) = towers
    text_model = getattr(found, "text_model", None)
    return text_model if isinstance(text_model, PreTrainedModel) else found


@contextmanager
def evaluation_mode(transformer: nn.Module, implementation: str | None = None) -> Iterator[None]:
    """Evaluation mode without gradients, perhaps in another attention implementation; all put back afterwards."""
    training = {module: module.training for module in transformer.modules()}
    configs = configurations(transformer)
    before = [config._attn_implementation for config in configs]
    with ExitStack() as stack:
        if any(module._compiled_call_impl is not None for module in training):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.no_grad())
        try:
            transformer.eval()
            if implementation is not None:
                for config in configs:
                    config._attn_implementation = implementation
            yield
        finally:
            for config, own in zip(configs, before, strict=True):
                config._attn_implementation = own
            for module, flag in training.items():
                module.training = flag


@contextmanager
def watching(
    transformer: nn.Module,
    enter: Callable[[nn.Module, Any, Any], None],
    leave: Callable[[nn.Module, Any, Any], None],
) -> Iterator[None]:
    """Call `enter(module, args, kwargs)` before and `leave(module, args, output)` after every module that runs."""
    with ExitStack() as hooks:
        for module in transformer.modules():
            # A softmax module belongs to the attention around it.
            if not isinstance(module, nn.Softmax):
                hooks.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
                hooks.callback(module.register_forward_hook(leave).remove)
        yield


def configurations(transformer: nn.Module) -> list[Any]:
    """Return the distinct configurations inside a model, those of its parts included."""
    configs = (getattr(module, "config", None) for module in transformer.modules())
    return list({id(config): config for config in configs if hasattr(config, "_attn_implementation")}.values())


def probe_batch(transformer: Any) -> dict[str, Any]:
    """Return two texts, one shorter and padded, on the CPU."""
    config = transformer.config.get_text_config()
    length = 8
    if getattr(transformer, "attention_type", None) == "block_sparse":
        # Up to this length BigBird would switch itself, for good, to dense attention.
        length += (5 + 2 * config.num_random_blocks) * config.block_size
    short = length * 5 // 8
    ids = 5 + (11 * torch.arange(2 * length).reshape(2, length)) % (config.vocab_size - 5)
    mask = torch.ones_like(ids)
    mask[1, short:] = 0
    padding = getattr(config, "pad_token_id", None)
    ids[1, short:] = 0 if padding is None else padding
    # The first token sees all others, for Longformer and its kin.
    first = torch.zeros_like(ids)
    first[:, 0] = 1
    batch = {"input_ids": ids, "attention_mask": mask, "global_attention_mask": first}
    # Not every model knows padding: FNet mixes all positions.
    accepted = inspect.signature(transformer.forward).parameters
    given: dict[str, Any] = {
        name: value
        for name, value in batch.items()
        if name in accepted or ("kwargs" in accepted and name != "global_attention_mask")
    }
    return given | ({"use_cache": False} if "use_cache" in accepted else {})


@dataclass
class Recording:
    """What each attention module did, call by call: its complete logits before any division, and its first output."""

    logits: dict[nn.Module, list[torch.Tensor]] = field(default_factory=dict)
    outputs: dict[nn.Module, list[torch.Tensor]] = field(default_factory=dict)


class Recorder(TorchFunctionMode):
    """Run a model, and record what its attention does. Attention is a module that calls softmax, or torch's SDPA."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.batch = probe_batch(transformer)
        self._real = self.batch.get("attention_mask", torch.ones(0)).bool()
        self._attention: set[nn.Module] = set()  # seen in any run
        self._recording = Recording()
        self._temperatures: Mapping[nn.Module, float | torch.Tensor] = {}
        self._stack: list[nn.Module] = []

    @property
    def device_and_dtype(self) -> tuple[torch.device, torch.dtype]:
        """Where the model is, and the type of its weights."""
        parameter = next(self.transformer.parameters())
        return parameter.device, parameter.dtype

    @property
    def is_exact(self) -> bool:
        """Whether the model is in float32 on the CPU."""
        return self.device_and_dtype == (torch.device("cpu"), torch.float32)

    @contextmanager
    def in_float32_on_the_cpu(self) -> Iterator[None]:
        """Have the weights of the model, and whatever other tensors it holds, in float32 on the CPU for a while.

        The tensors stay the same objects, since sources refer to them; what was in them waits on the device.
        """
        held = [tensor for module in self.transformer.modules() for tensor in _tensors(module)]
        before = {id(tensor): (tensor, tensor.data) for tensor in held}
        try:
            for tensor, data in before.values():
                tensor.data = data.to("cpu", torch.float32 if data.is_floating_point() else data.dtype)
            yield
        finally:
            for tensor, data in before.values():
                tensor.data = data

    @functools.cached_property
    def plain(self) -> Recording:
        """The eager run of the model as it is when this is read first."""
        return self.run("eager")

    def run(
        self,
        implementation: str | None = None,
        temperatures: Mapping[nn.Module, float | torch.Tensor] | None = None,
    ) -> Recording:
        """Run the model once, in an attention implementation; the logits of the given modules are divided inside softmax."""
        self._recording, self._temperatures, self._stack = Recording(), temperatures or {}, []
        device, _ = self.device_and_dtype
        try:
            with (
                evaluation_mode(self.transformer, implementation),
                watching(self.transformer, self._enter, self._leave),
                sdpa_kernel(_KERNELS),
                self,
            ):
                self.transformer(**{name: _moved(value, device) for name, value in self.batch.items()})
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UnsupportedModelError(
                f"{type(self.transformer).__name__} cannot be probed with input_ids and attention_mask alone "
                f"({error}); pass the text encoder inside it"
            ) from error
        return self._recording

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._stack.append(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop()
        if module in self._attention:
            first = next(iter(output.values())) if isinstance(output, dict) else output
            first = first if isinstance(first, torch.Tensor) else first[0]
            if first.shape[:2] == self._real.shape:
                first = first[self._real.to(first.device)]  # what backends put at padding differs
            self._recording.outputs.setdefault(module, []).append(first.float())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        softmax = func in SOFTMAXES
        if not self._stack or not (softmax or func is F.scaled_dot_product_attention):
            return func(*args, **kwargs)
        module = self._stack[-1]
        logits = (args[0] if args else kwargs["input"]) if softmax else _logits(SDPA(*args, **kwargs))
        if logits.ndim < 3:
            return func(*args, **kwargs)  # a router of experts or a classifier: attention has batch, queries and keys
        self._attention.add(module)
        self._recording.logits.setdefault(module, []).append(logits)
        if module not in self._temperatures:
            return func(*args, **kwargs)
        temperature = self._temperatures[module]
        return (
            divided_softmax(temperature, *args, **kwargs)
            if softmax
            else divided_sdpa(temperature, SDPA(*args, **kwargs))
        )


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors that a module holds itself."""
    values = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
    yield from (value for value in values if isinstance(value, torch.Tensor))


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _logits(call: SDPA) -> torch.Tensor:
    """Return the complete logits of scaled_dot_product_attention, minus infinity where masked."""
    logits, mask = call.query @ call.ungrouped().key.mT * call.factor, call.attn_mask
    if call.is_causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if mask is None:
        return logits
    return logits.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else logits + mask
