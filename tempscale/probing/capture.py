"""Read attention while a model runs on one text: what softmax or torch's SDPA gets, and the signals around it."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from tempscale.patching.exchange import SDPA, SOFTMAXES
from tempscale.patching.recorder import (
    UnsupportedModelError,
    evaluation_mode,
    has_sparse_attention,
    refuse_hidden,
    watching,
)
from tempscale.patching.survey import Survey
from tempscale.probing.attention_rows import AttentionCall

_PRODUCTS = (torch.matmul, torch.bmm, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.bmm)
# Modules that keep tokens on the last axis.
_TOKENS_LAST = ("SqueezeBertSelfAttention",)


@dataclass
class Energy:
    """The Frobenius norms of the two parts of a signal; NaN where it is not known."""

    dc: float = math.nan
    hc: float = math.nan


@dataclass
class Layer:
    """One attention call in its surroundings: what `describe` said of its heads, and the signals around it."""

    module: nn.Module
    heads: Mapping[str, torch.Tensor]
    entering_attention: Energy
    leaving_projection: Energy = field(default_factory=Energy)
    entering_block: Energy = field(default_factory=Energy)
    leaving_block: Energy = field(default_factory=Energy)


@dataclass
class _Frame:
    """A module that runs now, and what it was called with."""

    module: nn.Module
    args: Any
    kwargs: Any

    @property
    def signal(self) -> torch.Tensor | None:
        """The token states: MobileBERT's attention gets others for its values than for its queries."""
        named = (self.kwargs.get(name) for name in ("value_tensor", "hidden_states"))
        third = self.args[2:3] if type(self.module).__name__ == "MobileBertSelfAttention" else ()
        return _first_tensor((*named, *third, *self.args, *self.kwargs.values()))


class Capture(TorchFunctionMode):
    """Run a model on one text after the other, and hand each attention call to a function as soon as it happens.

    Args:
        transformer: a transformers model.
        describe: function of a call that returns tensors (heads,) by name; `attended` is the norm of HC[A V].
    """

    def __init__(self, transformer: nn.Module, describe: Callable[[AttentionCall], Mapping[str, torch.Tensor]]) -> None:
        super().__init__()
        self.transformer: Any = transformer
        self.describe = describe
        lists = (module for module in transformer.modules() if isinstance(module, nn.ModuleList))
        # The layers of a model stand in a list; parts of them may stand in further lists.
        self._in_lists = {module for children in lists for module in children}
        # The first text shows whether there is attention that cannot be seen.
        self._survey: Survey | None = Survey(lambda: (self._stack[-1].module if self._stack else None, self._inside))
        self._reset(0)

    def _reset(self, tokens: int) -> None:
        self._tokens = tokens
        self._layers: list[Layer] = []
        self._stack: list[_Frame] = []
        self._inside = False  # what sees attention
        self._block: tuple[_Frame, int] | None = None  # the running layer, and how many attention calls came before
        self._waiting: tuple[_Frame, AttentionCall] | None = None  # for the product with the values
        self._unprojected: Layer | None = None
        self._projection: nn.Module | None = None

    def run(self, inputs: Mapping[str, Any]) -> list[Layer]:
        """Return the attention calls of one text, whose `input_ids` are (1, n) without padding, in their order.

        Raises:
            UnsupportedModelError: the model has no attention, or some that cannot be seen.
        """
        if has_sparse_attention(self.transformer):
            # On short texts it would switch itself, for good, to full attention.
            raise UnsupportedModelError(
                f"{type(self.transformer).__name__} has sparse attention, no row of weights for all tokens: load it with "
                "attention_type='original_full'"
            )
        self._reset(inputs["input_ids"].shape[1])
        with (
            evaluation_mode(self.transformer, _implementation(self.transformer)),
            watching(self.transformer, self._enter, self._leave),
            self._survey or nullcontext(),
            self,
        ):
            self.transformer(**inputs)
        if self._survey:
            calls, self._survey = self._survey.calls, None
            # A router has few dimensions, and as many weights as experts.
            hidden = (call for call in calls if len(call.shape) in (0, 4) or call.size == self._tokens)
            refuse_hidden(self.transformer, hidden)
        if not self._layers:
            raise UnsupportedModelError(
                f"nothing to probe in {type(self.transformer).__name__}: its forward pass has no softmax attention"
            )
        return self._layers

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        frame = _Frame(module, args, kwargs)
        self._stack.append(frame)
        if self._block is None and module in self._in_lists:
            self._block = frame, len(self._layers)
        weight = getattr(module, "weight", None)
        if self._unprojected is not None and isinstance(weight, torch.Tensor) and weight.ndim == 2:
            # The first weights after attention that are applied to what it returned.
            attended = self._unprojected.heads["attended"].norm().item()
            if abs(self._energy(frame.signal, module).hc - attended) <= 0.02 * attended:
                self._projection = module
            else:
                self._unprojected = None

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        frame = self._stack.pop()
        if self._waiting is not None and self._waiting[0] is frame:
            self._finish(*self._waiting)
        if module is self._projection and self._unprojected is not None:
            self._unprojected.leaving_projection = self._energy(_first_tensor((output,)), module)
            self._unprojected = self._projection = None
        if self._block is not None and self._block[0] is frame:
            before, after = (self._energy(x, module) for x in (frame.signal, _first_tensor((output,))))
            for layer in self._layers[self._block[1] :]:
                layer.entering_block, layer.leaving_block = before, after
            self._block = self._unprojected = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._survey:
            self._survey.look_at(func, args)
        seen = bool(self._stack) and (func is F.scaled_dot_product_attention or func in SOFTMAXES)
        if not seen and (func not in _PRODUCTS or self._waiting is None):
            return func(*args, **kwargs)
        self._inside = True
        try:
            self._see(func, args, kwargs)
            return func(*args, **kwargs)
        finally:
            self._inside = False

    def _see(self, func: Any, args: Any, kwargs: Any) -> None:
        if func is F.scaled_dot_product_attention:
            self._finish(self._stack[-1], self._from_sdpa(SDPA(*args, **kwargs)))
        elif func in SOFTMAXES:
            logits = args[0] if args else kwargs["input"]
            if logits.ndim >= 3:  # else a router of experts or a classifier
                self._waiting = self._stack[-1], AttentionCall(logits=self._by_head(logits, self._tokens))
        elif self._waiting is not None and args[0].shape[-2:] == (self._tokens, self._tokens):
            frame, call = self._waiting
            call.value = self._by_head(args[1])
            self._finish(frame, call)

    def _finish(self, frame: _Frame, call: AttentionCall) -> None:
        self._waiting = None
        before, self._inside = self._inside, True  # a description may have a softmax of its own
        layer = Layer(frame.module, self.describe(call), self._energy(frame.signal, frame.module))
        self._inside = before
        self._layers.append(layer)
        self._unprojected = layer

    def _from_sdpa(self, given: SDPA) -> AttentionCall:
        """Return what scaled_dot_product_attention gets, with one key head for each query head."""
        given = given.ungrouped()
        query, key, value = (self._by_head(x) for x in (given.query, given.key, given.value))
        mask = given.attn_mask[0] if given.attn_mask is not None and given.attn_mask.ndim == 4 else given.attn_mask
        return AttentionCall(value=value, query=query, key=key, scale=given.factor, mask=mask, causal=given.is_causal)

    def _by_head(self, x: torch.Tensor, width: int | None = None) -> torch.Tensor:
        """Return (heads, n, width) from (1, heads, n, width) or (heads, n, width)."""
        if x.shape[-2] != self._tokens or x.shape[-1] != (width or x.shape[-1]) or (x.ndim == 4 and len(x) != 1):
            raise UnsupportedModelError(
                f"attention of {type(self._stack[-1].module).__name__} cannot be probed: for {self._tokens} tokens it has "
                f"a part of shape {tuple(x.shape)}, so no row of weights for all tokens; use a model with dense attention"
            )
        return x.reshape(-1, *x.shape[-2:])

    def _energy(self, signal: torch.Tensor | None, module: nn.Module) -> Energy:
        """Return the norms of DC and HC of a signal of one text."""
        if signal is None or signal.numel() % self._tokens or not signal.is_floating_point():
            return Energy()
        if type(module).__name__ in _TOKENS_LAST:
            signal = signal.mT
        tokens = signal.reshape(self._tokens, -1).double()
        mean = tokens.mean(0)
        return Energy(math.sqrt(self._tokens) * mean.norm().item(), (tokens - mean).norm().item())


def _first_tensor(values: Any) -> torch.Tensor | None:
    """Return the first tensor in the arguments or the output of a module."""
    for value in values:
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, (tuple, list, Mapping)):
            found = _first_tensor(value.values() if isinstance(value, Mapping) else value)
            if found is not None:
                return found
    return None


def _implementation(transformer: Any) -> str | None:
    """Return the attention implementation to probe with; None is the model's own."""
    own = getattr(transformer.config, "_attn_implementation", None)
    if own in (None, "eager", "sdpa"):
        return None
    # A soft cap is what torch's SDPA has not.
    capped = any(isinstance(getattr(module, "attn_logit_softcapping", None), float) for module in transformer.modules())
    return "eager" if capped else "sdpa"
