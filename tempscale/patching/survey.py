"""Which softmax of a forward pass is attention, seen below Python, where nothing can hide.

A temperature reaches what a model calls as softmax or scaled_dot_product_attention of `torch.nn.functional`. Attention may
also be made by a native kernel, a scripted function, exp and sum: all of these are operators for torch's dispatcher.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_SOFTMAXES = ("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax", "logsumexp")
_FUSED = (
    "dot_product_attention",
    "flash_attention",
    "efficient_attention",
    "multi_head_attention",
    "encoder_layer_fwd",
)
_EXPONENTIALS = ("exp", "exp_", "exp2", "exp2_")
# Where numbers leave torch, and nothing more can be seen of them.
_EXITS = (torch.Tensor.numpy, torch.Tensor.__array__)
# What softmax weights are still softmax weights after, and what takes weighted means with them.
_COPIES = ("_to_copy", "clone", "native_dropout")
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "matmul")


@dataclass
class Call:
    """A softmax, of whatever make.

    Attributes:
        module: innermost module that runs.
        operator: name of torch's operator.
        shape: shape of the logits; () for a fused kernel, which is attention by its name.
        size: length of the dimension that the weights sum to one over.
        seen: whether Python called it as one of the functions that a temperature reaches.
        averages: whether a matrix product takes means with its weights.
    """

    module: nn.Module
    operator: str
    shape: tuple[int, ...]
    size: int
    seen: bool
    averages: bool = False

    @property
    def kind(self) -> tuple[nn.Module, int]:
        """What calls at different lengths are compared by: the module, and the number of dimensions."""
        return self.module, len(self.shape)


class Survey(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, collect every softmax in `calls`.

    Args:
        where: function that returns the innermost module that runs, or None, and whether a function that a temperature
            reaches is running.
    """

    def __init__(self, where: Callable[[], tuple[nn.Module | None, bool]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self._where = where
        # By the storage of tensors, which views share; they are kept, lest another tensor gets their place.
        self._weights: dict[int, Call] = {}
        self._exponentials: set[int] = set()
        self._kept: list[torch.Tensor] = []

    def look_at(self, func: Any, args: Any) -> None:
        """Collect a call of a function, of which the dispatcher will know nothing, too."""
        module, seen = self._where()
        if module is not None and not seen and func in _EXITS and args[0].is_floating_point():
            self.calls.append(Call(module, "NumPy", (), 0, seen=False))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        module, seen = self._where()
        if module is not None:
            operator, matters = _named(func)
            if matters:
                self._look(module, seen, operator, args, kwargs or {}, output)
        return output

    def _look(self, module: nn.Module, seen: bool, operator: str, args: Any, kwargs: Any, output: Any) -> None:
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        several = output if isinstance(output, tuple) else (output,)
        first = next((value for value in several if isinstance(value, torch.Tensor)), None)
        if any(name in operator for name in _FUSED):
            self.calls.append(Call(module, operator, (), 0, seen))
        elif first is None or not inputs:
            return
        elif operator in _SOFTMAXES:
            self._add(module, seen, operator, inputs[0], args[1] if len(args) > 1 else kwargs["dim"], first)
        elif operator in _EXPONENTIALS:
            self._exponentials.add(_place(first))
            self._kept.append(first)
        elif operator == "sum" and len(args) > 1 and _place(inputs[0]) in self._exponentials:
            self._add(module, seen, "exp and sum", inputs[0], args[1], inputs[0])
        elif operator in _COPIES and (call := self._weights.get(_place(inputs[0]))):
            self._follow(first, call)
        elif operator in _PRODUCTS:
            for call in filter(None, (self._weights.get(_place(value)) for value in inputs)):
                call.averages = True

    def _add(
        self, module: nn.Module, seen: bool, operator: str, logits: torch.Tensor, dim: Any, weights: torch.Tensor
    ) -> None:
        dims = dim if isinstance(dim, Sequence) else [dim]
        if logits.ndim and len(dims) == 1:
            self.calls.append(Call(module, operator, tuple(logits.shape), logits.shape[dims[0]], seen))
            if logits.ndim == 3:  # where it makes a difference
                self._follow(weights, self.calls[-1])

    def _follow(self, weights: torch.Tensor, call: Call) -> None:
        self._weights[_place(weights)] = call
        self._kept.append(weights)


@functools.cache
def _named(func: Any) -> tuple[str, bool]:
    """Return the name of an operator, and whether it is one of those that are followed."""
    operator = func.name().partition("::")[2].partition(".")[0]
    followed = (*_SOFTMAXES, *_EXPONENTIALS, "sum", *_COPIES, *_PRODUCTS)
    return operator, operator in followed or any(name in operator for name in _FUSED)


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def no_attention(calls: Sequence[Call], at_other_lengths: Sequence[Call]) -> set[tuple[nn.Module, int]]:
    """Return the kinds of calls that are no attention, such as those of a router of experts, from runs at several lengths.

    Attention has batch, heads, queries and keys, or its weights are as many as there are tokens. With three dimensions
    it may also look at a fixed number of things, in windows or in a memory: then its rows are fixed too, or it averages.
    """
    runs = [list(_by_kind(calls, kind)) for kind in {call.kind for call in calls}]
    found = set()
    for run in runs:
        kind = run[0].kind
        other = list(_by_kind(at_other_lengths, kind))
        fixed = {call.size for call in run} == {call.size for call in other}
        rows = [{call.shape[:-1] for call in some} for some in (run, other)]
        averages = any(call.averages for call in (*run, *other))
        if 0 < kind[1] <= 3 and fixed and (kind[1] < 3 or (rows[0] != rows[1] and not averages)):
            found.add(kind)
    return found


def _by_kind(calls: Sequence[Call], kind: tuple[nn.Module, int]) -> Iterator[Call]:
    yield from (call for call in calls if call.kind == kind)
