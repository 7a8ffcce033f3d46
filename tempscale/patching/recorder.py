"""Run a model on a small padded batch and record the logits of its attention.

What a module must do with a temperature is known from here: the same run, with the logits divided inside softmax itself,
whatever the model did to make them.
"""

import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from tempscale.patching.exchange import SDPA, SOFTMAXES, Tempered, divided_sdpa, divided_softmax
from tempscale.patching.survey import Call, Survey, no_attention

# A kernel that a user insists on may not take the padding of the probe; which one runs is no concern of a temperature.
_KERNELS: list[SDPBackend] = [kernel for kernel in SDPBackend.__members__.values() if kernel is not SDPBackend.ERROR]

# The texts of a probe, in tokens: some that are padded to the longest, a long one alone, and a very short one.
_PADDED, _LONG, _SHORT = (9, 6, 3), 64, 4


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
    around = next(
        (one for one in model.modules() if isinstance(one, nn.MultiheadAttention) and one not in inside), None
    )
    if around is not None:
        raise UnsupportedModelError(
            f"{type(model).__name__} has attention of torch's own, {type(around).__name__}, beside its transformers model, "
            "and a temperature in one of the two is half a temperature: pass the transformers model by itself"
        )
    text_model = getattr(found, "text_model", None)
    return text_model if isinstance(text_model, PreTrainedModel) else found


class _Uncompiled:
    """While active, nothing runs compiled. Torch has one stance for all threads: the last to leave puts it back."""

    def __init__(self) -> None:
        self._lock, self._inside, self._stance = threading.Lock(), 0, nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            # Where dynamo was never loaded nothing is compiled, and it takes long to load.
            if not self._inside and "torch._dynamo" in sys.modules:
                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stance.__exit__(None, None, None)
                self._stance = nullcontext()


_uncompiled = _Uncompiled()


@contextmanager
def evaluation_mode(transformer: nn.Module, implementation: str | None = None) -> Iterator[None]:
    """Evaluation mode without gradients, perhaps in another attention implementation; all put back afterwards."""
    training = {module: module.training for module in transformer.modules()}
    configs = configurations(transformer)
    before = [config._attn_implementation for config in configs]
    # Inference mode hides what operators are made of.
    with _uncompiled, torch.inference_mode(False), torch.no_grad():
        try:
            if any(training.values()):
                transformer.eval()
            if implementation is not None:
                for config in configs:
                    config._attn_implementation = implementation
            yield
        finally:
            for config, own in zip(configs, before, strict=True):
                config._attn_implementation = own
            for module, flag in training.items():
                if module.training is not flag:
                    module.training = flag


@contextmanager
def watching(
    transformer: nn.Module,
    enter: Callable[[nn.Module, Any, Any], None],
    leave: Callable[[nn.Module, Any, Any], None],
) -> Iterator[None]:
    """Call `enter(module, args, kwargs)` before and `leave(module, args, output)` after every module that runs."""
    hooks = []
    try:
        for module in transformer.modules():
            # A softmax module belongs to the attention around it.
            if not isinstance(module, nn.Softmax):
                hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
                hooks.append(module.register_forward_hook(leave))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def configurations(transformer: nn.Module) -> list[Any]:
    """Return the distinct configurations inside a model, those of its parts included."""
    configs = (getattr(module, "config", None) for module in transformer.modules())
    return list({id(config): config for config in configs if hasattr(config, "_attn_implementation")}.values())


def has_sparse_attention(transformer: nn.Module) -> bool:
    """Whether a model, or the one inside a model with a head, has BigBird's sparse attention."""
    return any(getattr(module, "attention_type", None) == "block_sparse" for module in transformer.modules())


def probe_batches(transformer: Any) -> list[dict[str, Any]]:
    """Return, on the CPU, a padded batch of several short texts, and batches of one long text and of a shorter one.

    Raises:
        UnsupportedModelError: the model reads no tokens.
    """
    accepted = inspect.signature(transformer.forward).parameters
    config = transformer.config.get_text_config()
    vocabulary = getattr(config, "vocab_size", 99)
    if "input_ids" not in accepted and transformer.main_input_name != "input_ids":
        raise UnsupportedModelError(
            f"{type(transformer).__name__} reads {transformer.main_input_name} and no input_ids: pass a model of texts"
        )
    padding = getattr(config, "pad_token_id", None)
    further = 0
    if has_sparse_attention(transformer):
        # Up to this length BigBird would switch itself, for good, to dense attention.
        further = (5 + 2 * config.num_random_blocks) * config.block_size

    def batch(*lengths: int) -> dict[str, Any]:
        each = torch.tensor(lengths)[:, None] + further
        first_id = min(5, vocabulary - 1)  # beyond special tokens
        ids = torch.arange(len(lengths) * int(each.max())).reshape(len(lengths), -1)
        mask = (torch.arange(ids.shape[1]) < each).long()
        ids = first_id + (11 * ids) % (vocabulary - first_id)
        ids[mask == 0] = padding if isinstance(padding, int) and 0 <= padding < vocabulary else 0
        # The first token sees all others, for Longformer and its kin.
        first = torch.zeros_like(ids)
        first[:, 0] = 1
        given = {"input_ids": ids, "attention_mask": mask, "global_attention_mask": first}
        # Not every model knows padding: FNet mixes all positions.
        given = {
            name: value
            for name, value in given.items()
            if name in accepted or ("kwargs" in accepted and name != "global_attention_mask")
        }
        return {**given, **({"use_cache": False} if "use_cache" in accepted else {})}

    # Some count positions from beyond the padding, so that a few are not for tokens.
    positions = getattr(config, "max_position_embeddings", None)
    room = positions * 3 // 4 if isinstance(positions, int) and positions > 0 else _LONG
    return [batch(*_PADDED), batch(min(_LONG, room)), batch(_SHORT)]


@dataclass
class Recording:
    """What each attention module did, call by call: its complete logits before any division, and its first output."""

    logits: dict[nn.Module, list[torch.Tensor]] = field(default_factory=dict)
    outputs: dict[nn.Module, list[torch.Tensor]] = field(default_factory=dict)


class Recorder(TorchFunctionMode):
    """Run a model, and record what its attention does. Attention is a module that calls softmax, or torch's SDPA.

    Raises:
        UnsupportedModelError: the model cannot be run, or has attention of another make, which no temperature reaches.

    Attributes:
        batches: padded batch of several texts, and texts of other lengths.
        plain: eager run of the model on the first batch, as it is now.
        others: modules with a softmax that is no attention, such as that of a router, and its number of dimensions.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self._attention: set[nn.Module] = set()  # seen in any run
        self.others: set[tuple[nn.Module, int]] = set()
        self._recording = Recording()
        self._temperatures: Mapping[nn.Module, float | torch.Tensor] = {}
        self._stack: list[nn.Module] = []
        self._inside = False  # a function that a temperature reaches
        self._survey: Survey | None = None  # while there is one
        self._real = torch.ones(0)
        padded, *others = probe_batches(transformer)
        self.batches = [padded]
        calls, at_other_lengths = self._surveyed("eager", 0), []
        for batch in others:
            self.batches.append(batch)
            try:
                at_other_lengths += self._surveyed("eager", len(self.batches) - 1)
            except UnsupportedModelError:  # a model may have no room for the long text, or take none so short
                self.batches.pop()
                if batch is others[-1] and len(self.batches) == 1:
                    raise
        if getattr(transformer.config, "_attn_implementation", None) == "sdpa":  # whose kernels are operators, too
            calls += self._surveyed("sdpa", 0)
            at_other_lengths += [
                call for batch in range(1, len(self.batches)) for call in self._surveyed("sdpa", batch)
            ]
        self.others = no_attention(calls, at_other_lengths)
        refuse_hidden(transformer, (call for call in (*calls, *at_other_lengths) if call.kind not in self.others))
        self.plain = self.run("eager")

    def _surveyed(self, implementation: str, batch: int) -> list[Call]:
        self._survey = survey = Survey(lambda: (self._stack[-1] if self._stack else None, self._inside))
        with survey:
            try:
                self.run(implementation, batch=batch)
            finally:
                self._survey = None
        return survey.calls

    @property
    def device_and_dtype(self) -> tuple[torch.device, torch.dtype]:
        """Where the model is, and the type of its weights.

        Raises:
            UnsupportedModelError: its weights are nowhere.
        """
        parameters = list(self.transformer.parameters())
        parameter = next((one for one in parameters if not one.is_meta), None)
        # Weights that accelerate has put elsewhere come when a module runs.
        hooks: Any = (getattr(module, "_hf_hook", None) for module in self.transformer.modules())
        loading = (getattr(hook, "execution_device", None) for hook in hooks)
        device = next(filter(None, loading), None) if parameter is None else parameter.device
        if device is None:
            raise UnsupportedModelError(
                f"the weights of {type(self.transformer).__name__} are on the meta device, without values: load them first"
            )
        return torch.device(device), (parameters[0] if parameter is None else parameter).dtype

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

    def run(
        self,
        implementation: str | None = None,
        temperatures: Mapping[nn.Module, float | torch.Tensor] | None = None,
        batch: int = 0,
    ) -> Recording:
        """Run the model once, in an attention implementation; the logits of the given modules are divided inside softmax."""
        self._recording, self._temperatures, self._stack = Recording(), temperatures or {}, []
        self._thread, self._disturbed = threading.get_ident(), False
        given = self.batches[batch]
        self._real = given.get("attention_mask", torch.ones(0)).bool()
        device, _ = self.device_and_dtype
        try:
            with (
                evaluation_mode(self.transformer, implementation),
                watching(self.transformer, self._enter, self._leave),
                sdpa_kernel(_KERNELS),
                self,
            ):
                self.transformer(**{name: _moved(value, device) for name, value in given.items()})
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UnsupportedModelError(
                f"{type(self.transformer).__name__} cannot be probed with input_ids and attention_mask alone "
                f"({error}); pass the text encoder inside it"
            ) from error
        finally:
            self._stack = []
            if self._disturbed:
                raise RuntimeError(
                    f"another thread ran {type(self.transformer).__name__} while its temperature was prepared, and what it "
                    "computed may be wrong: patch a model before threads share it"
                )
        return self._recording

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if threading.get_ident() != self._thread:
            # At the door of a patched model it waits.
            self._disturbed |= not (module is self.transformer and isinstance(module, Tempered))
            return
        self._stack.append(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        self._stack.pop()
        if module in self._attention:
            several = output.values() if isinstance(output, dict) else output
            first = output if isinstance(output, torch.Tensor) else next(x for x in several if x is not None)
            if first.shape[:2] == self._real.shape:
                first = first[self._real.to(first.device)]  # what backends put at padding differs
            self._recording.outputs.setdefault(module, []).append(first.float())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        softmax = func in SOFTMAXES
        if self._survey:
            self._survey.look_at(func, args)
        if not self._stack or not (softmax or func is F.scaled_dot_product_attention):
            return func(*args, **kwargs)
        module = self._stack[-1]
        self._inside = True
        try:
            logits = (args[0] if args else kwargs["input"]) if softmax else _logits(SDPA(*args, **kwargs))
            if (module, logits.ndim) in self.others:
                return func(*args, **kwargs)  # a router of experts or a classifier
            self._attention.add(module)
            self._recording.logits.setdefault(module, []).append(logits)
            if module not in self._temperatures:
                return func(*args, **kwargs)
            temperature = self._temperatures[module]
            if softmax:
                return divided_softmax(temperature, *args, **kwargs)
            return divided_sdpa(temperature, SDPA(*args, **kwargs))
        finally:
            self._inside = False


def refuse_hidden(transformer: nn.Module, calls: Iterable[Call]) -> None:
    """Raise UnsupportedModelError if one of these calls, which are attention, was not seen by Python."""
    names = {module: name for name, module in transformer.named_modules()}
    for call in calls:
        if not call.seen:
            raise UnsupportedModelError(
                f"hidden attention in {type(transformer).__name__}: {type(call.module).__name__} ({names[call.module]}) "
                f"makes attention by {call.operator}, which no temperature reaches and no probe; have it call softmax or "
                "scaled_dot_product_attention of torch.nn.functional"
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
