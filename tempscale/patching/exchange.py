"""Modules whose attention has a temperature.

A module gets a temperature by an exchange of its class for a subclass, made on the spot. That is plain state and no hook: it
survives copies, pickles, new processes, compilation and export, leaves the names of the weights alone, and the exchange
back restores the module bit for bit.
"""

import functools
import inspect
import os
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

# The attribute of a module with a temperature: a float, or a function from token counts (batch,) to temperatures (batch,).
MARK = "_tempscale_temperature"
_GROUPS = "_tempscale_groups"
Temperature = float | Callable[[torch.Tensor], torch.Tensor]

SOFTMAXES = (F.softmax, torch.softmax, torch.Tensor.softmax, torch.special.softmax)

# The token counts of the batch that runs now; of this thread, since another may run another batch.
_running = threading.local()


def exchange(
    module: nn.Module, mixin: type["Tempered"], temperature: Temperature | None = None, groups: int | None = None
) -> None:
    """Put a mixin before the class of a module, in one step, in place of one that it may have."""
    before = type(module)
    if getattr(before, "_tempscale_mixin", None) is not mixin:
        base: Any = module._tempscale_base if isinstance(module, Tempered) else before
        cls: Any = tempered_class(mixin, base)  # type: ignore[arg-type] # classes are hashable
        module.__class__ = cls
        _bind_again(module, before, cls)
    vars(module).update({MARK: temperature, _GROUPS: groups})


def restore(module: nn.Module) -> None:
    """Take a mixin and its temperature away; nothing happens to a module without."""
    if isinstance(module, Tempered):
        base: Any = module._tempscale_base
        tempered: Any = tempered_class(module._tempscale_mixin, base)  # type: ignore[arg-type] # classes are hashable
        _bind_again(module, tempered, base)
        if type(module) is tempered:
            module.__class__ = base
        else:  # torch's parametrizations put a class of their own on top
            top: Any = next(cls for cls in type(module).__mro__ if tempered in cls.__bases__)
            top.__bases__ = tuple(base if cls is tempered else cls for cls in top.__bases__)
        for name in (MARK, _GROUPS):
            del vars(module)[name]


def _bind_again(module: nn.Module, before: type[nn.Module], after: type[nn.Module]) -> None:
    """Give what holds the forward of a module's class, such as a hook of accelerate, that of its new class."""
    for name, value in list(vars(module).items()):
        if isinstance(value, MethodType) and value.__self__ is module and value.__func__ is before.forward:
            vars(module)[name] = MethodType(after.forward, module)


@functools.cache
def tempered_class(mixin: type["Tempered"], base: type[nn.Module]) -> type[nn.Module]:
    """Return the subclass of a mixin and a class; it keeps the name, which libraries write into configurations."""

    @functools.wraps(base.forward)  # libraries give a model what its signature names
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return mixin.forward(self, *args, **kwargs)

    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    arguments = tuple(inspect.signature(base.forward).parameters)[1:]
    own = {"_tempscale_base": base, "_tempscale_mixin": mixin, "_tempscale_arguments": arguments, "forward": forward}
    return type(base.__name__, (mixin, base), {**names, **own})


def _rebuild(mixin: type["Tempered"], base: type[nn.Module]) -> nn.Module:
    """Return an empty instance for pickle and copy, which know the mixin and the base by name, but not their subclass."""
    cls = tempered_class(mixin, base)  # type: ignore[arg-type]
    return cls.__new__(cls)


def _runs_again(model: nn.Module) -> bool:
    """Whether parts of a transformers model are run again for their gradients."""
    return any(getattr(module, "gradient_checkpointing", False) is True for module in model.modules())


def _has_temperature(module: nn.Module) -> bool:
    return isinstance(module, Tempered)


def _bound_before(module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Run a module whose temperature was removed after its `forward` was bound, by torch.compile or a hook of accelerate."""
    return type(module).forward(module, *args, **kwargs)


class Tempered(nn.Module):
    """What all exchanged modules share."""

    _tempscale_base: type[nn.Module]
    _tempscale_mixin: type["Tempered"]
    _tempscale_arguments: tuple[str, ...]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _rebuild, (self._tempscale_mixin, self._tempscale_base), self.__getstate__()  # type: ignore[no-untyped-call]

    def current(self) -> float | torch.Tensor:
        """Return the temperature of the running batch: one number, or one for each sequence.

        No property: torch and inspect look at all of a module's, also where nothing runs.
        """
        temperature: Temperature = getattr(self, MARK)
        if isinstance(temperature, float):
            return temperature
        lengths: torch.Tensor | None = getattr(_running, "lengths", None)
        if lengths is None:
            raise RuntimeError(
                f"{type(self).__name__} has a temperature that depends on the number of tokens, which only the whole model "
                "knows: call the patched model and not a part of it"
            )
        return temperature(lengths)


class TemperedOutput(Tempered):
    """A module that makes queries: its output is divided by the temperature."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the original class, divided."""
        if not _has_temperature(self):
            return _bound_before(self, args, kwargs)
        output = super().forward(*args, **kwargs)
        groups = getattr(self, _GROUPS)
        if groups is None:
            return output / broadcast_against(self.current(), output)
        # Of a fused projection only the queries are divided: (..., groups, 3, width), queries first in each group.
        queries = output.unflatten(-1, (groups, 3, -1))[..., 0, :]
        queries.div_(broadcast_against(self.current(), queries))
        return output


class TemperedTable(Tempered):
    """A table of position biases whose entries are divided by the temperature, before they are spread over all pairs."""

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        """Return the divided entries of the original class."""
        if not _has_temperature(self):
            found: torch.Tensor = _bound_before(self, (index,), {})
            return found
        temperature = self.current()
        if not isinstance(temperature, float):
            raise RuntimeError("a table of position biases has no sequences: the logits must be divided inside softmax")
        table: torch.Tensor = self.weight  # type: ignore[assignment]
        return F.embedding(index, table / temperature)


class TemperedAttention(Tempered):
    """An attention module whose logits are divided inside softmax, for what no source of the logits can give."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the attention of the divided logits."""
        if not _has_temperature(self):
            return _bound_before(self, args, kwargs)
        # A compiled graph would take no notice of the mode, so this module is left out of it.
        attend = _uncompiled() if torch.compiler.is_dynamo_compiling() else _attend
        return attend(self, super().forward, args, kwargs)


def _attend(module: TemperedAttention, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    with DividedLogits(module.current()) as divided:
        output = forward(*args, **kwargs)
    if not divided.calls:
        raise RuntimeError(
            f"{type(module).__name__} called neither softmax nor scaled_dot_product_attention, so its temperature had no "
            "effect: use attn_implementation='sdpa' or 'eager' with this model and temperature"
        )
    return output


@functools.cache
def _uncompiled() -> Callable[..., Any]:
    disabled: Callable[..., Any] = torch.compiler.disable(_attend)  # type: ignore[no-untyped-call]
    return disabled


class Turns:
    """Many threads may run a model at once, or one may change its temperature."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._running: Counter[int] = Counter()  # forward passes of each thread
        self._changing: int | None = None
        self._waiting = 0  # to change
        self._process = os.getpid()

    def _after_fork(self) -> None:
        """Forget the threads of the process that this one was forked from."""
        if self._process != os.getpid():
            self.__init__()  # type: ignore[misc]

    @property
    def is_mine(self) -> bool:
        """Whether this thread is changing the temperature."""
        return self._changing == threading.get_ident()

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run while nothing changes."""
        self._after_fork()
        me = threading.get_ident()
        with self._condition:
            # Who runs already must not wait for those who wait for it.
            self._condition.wait_for(
                lambda: self._running[me] or self._changing == me or not (self._waiting or self._changing)
            )
            self._running[me] += 1
        try:
            yield
        finally:
            with self._condition:
                self._running[me] -= 1
                self._running += Counter()  # drops zeros
                self._condition.notify_all()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Change while nothing runs; RuntimeError from within a forward pass."""
        self._after_fork()
        me = threading.get_ident()
        if self._changing == me:
            yield
            return
        with self._condition:
            if self._running[me]:
                raise RuntimeError("a temperature cannot change inside a forward pass of its model: set it between two")
            self._waiting += 1
            try:
                self._condition.wait_for(lambda: not self._running.total() and self._changing is None)
            finally:
                self._waiting -= 1
            self._changing = me
        try:
            yield
        finally:
            with self._condition:
                self._changing = None
                self._condition.notify_all()

    def __reduce__(self) -> Any:
        return Turns, ()  # a copy of a model takes turns of its own


_CALLS = ("_wrapped_call_impl", "_call_impl", "forward")
_WAITS = (Turns.run.__wrapped__.__code__, Turns.change.__wrapped__.__code__)  # type: ignore[attr-defined]


def refuse_running(transformer: nn.Module) -> None:
    """Raise RuntimeError if a thread is inside a model, unless it waits at the door of a patch."""
    parts, innermost = set(map(id, transformer.modules())), sys._current_frames()
    innermost[threading.get_ident()] = sys._getframe(1)  # not this function's own, which would hold itself
    for thread, last in innermost.items():
        frames = [frame for frame, _ in traceback.walk_stack(last)]
        waits = any(frame.f_code in _WAITS for frame in frames)
        # No other frame is asked for its variables: up to Python 3.12 that keeps them alive until it ends.
        calls = (
            frame for frame in frames if frame.f_code.co_name in _CALLS and frame.f_code.co_varnames[:1] == ("self",)
        )
        inside = [module for frame in calls if id(module := frame.f_locals.get("self")) in parts]
        if any(module is not transformer or not waits for module in inside):
            where = "this" if thread == threading.get_ident() else "another"
            raise RuntimeError(
                f"{type(transformer).__name__} is running in {where} thread: give a model its temperature between two "
                "forward passes, and before threads share it"
            )


class Patched(Tempered):
    """A transformers model that is patched: it cannot be saved, since what is reloaded would have no temperature."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model with its temperature, whatever was done to its parts or is done by other threads."""
        if not _has_temperature(self):
            return _bound_before(self, args, kwargs)
        patch: Any = getattr(self, "tempscale_patch", None)
        if patch is None or torch.compiler.is_dynamo_compiling():  # under proof, or in a graph of its own
            return self._run(args, kwargs)
        with patch.running():
            # It may have lost its temperature, or got another patch, while it waited.
            if getattr(self, "tempscale_patch", None) is patch:
                return self._run(args, kwargs)
        return _bound_before(self, args, kwargs)

    def _run(self, args: Any, kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Raise: a saved model would lose its temperature; use `fold`."""
        raise ValueError(
            f"{type(self).__name__} is patched, and a saved model forgets its temperature: `.remove()` the patch and use "
            "tempscale.fold to write the temperature into the weights"
        )


class LengthAware(Patched):
    """A patched model that knows how many tokens each sequence of the running batch has."""

    def _run(self, args: Any, kwargs: Any) -> Any:
        if torch.is_grad_enabled() and self.training and _runs_again(self):
            raise RuntimeError(
                f"{type(self).__name__} has a temperature by length and gradient checkpointing, which runs parts of it "
                "again when their tokens are no longer known: call gradient_checkpointing_disable(), or use one number"
            )
        given = {**dict(zip(self._tempscale_arguments, args, strict=False)), **kwargs}
        inputs, mask = given.get("input_ids"), given.get("attention_mask")
        inputs = given["inputs_embeds"] if inputs is None else inputs
        padding, cache = given.get("input_mask"), given.get("past_key_values")
        if mask is None and padding is not None:  # XLNet's, the other way round
            mask = 1 - padding
        if mask is None and cache is not None and not (hasattr(cache, "get_seq_length") and not cache.get_seq_length()):
            raise ValueError(
                "a temperature by length needs to know how many tokens are in past_key_values: give an attention_mask of "
                "them and the new ones"
            )
        if mask is None:
            mask = torch.ones(inputs.shape[:2], device=inputs.device)
        if mask.ndim != 2:
            raise ValueError(
                f"a temperature by length needs an attention_mask of shape (batch, tokens), not {tuple(mask.shape)}"
            )
        positions = given.get("position_ids")
        if positions is not None and (positions.diff(dim=-1) < 0).any():
            raise ValueError(
                "a temperature by length needs a row for each text, but these position_ids start again within a row, as "
                "those of packed texts do: pad the texts instead"
            )
        before = getattr(_running, "lengths", None)
        _running.lengths = mask.sum(-1)
        try:
            return super()._run(args, kwargs)
        finally:
            _running.lengths = before


class DividedLogits(TorchFunctionMode):
    """While active, every softmax and scaled_dot_product_attention divides its complete logits by a temperature.

    A softmax of a matrix is that of a router of experts, which stays as it is: attention has batch, queries and keys.
    """

    def __init__(self, temperature: float | torch.Tensor) -> None:
        super().__init__()
        self.temperature = temperature
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in SOFTMAXES and (args[0] if args else kwargs["input"]).ndim >= 3:
            self.calls += 1
            return divided_softmax(self.temperature, *args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.calls += 1
            return divided_sdpa(self.temperature, SDPA(*args, **kwargs))
        return func(*args, **kwargs)


def broadcast_against(temperature: float | torch.Tensor, x: torch.Tensor) -> float | torch.Tensor:
    """Return a temperature that divides x: temperatures (batch,) in the shape of x (batch, ...) or (batch * heads, ...)."""
    if isinstance(temperature, float):
        return temperature
    batch, rows = len(temperature), x.shape[0]
    if rows % batch:
        raise RuntimeError(
            f"a temperature by length needs one row per sequence, but {batch} sequences make {rows} rows: "
            "switch off unpadding of the inputs"
        )
    repeated = temperature.to(x.device, x.dtype).repeat_interleave(rows // batch)
    return repeated.view(-1, *[1] * (x.ndim - 1))


def divided_softmax(
    temperature: float | torch.Tensor,
    input: torch.Tensor,  # noqa: A002 (torch's name)
    dim: int,
    *args: Any,
    dtype: torch.dtype | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """Return softmax(input / temperature) for the arguments of any of `SOFTMAXES`."""
    dtype = next((arg for arg in args if isinstance(arg, torch.dtype)), dtype) or input.dtype
    # In single precision at least, and the row maximum goes first: a mask filled with the smallest float must not overflow.
    x = input.to(torch.promote_types(dtype, torch.float32))
    x = (x - x.amax(dim, keepdim=True)) / broadcast_against(temperature, x)
    return torch.softmax(x, dim).to(dtype)


class SDPA(NamedTuple):
    """The arguments of a call of scaled_dot_product_attention: `SDPA(*args, **kwargs)`."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attn_mask: torch.Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    @property
    def factor(self) -> float:
        """What the products of queries and keys are multiplied by."""
        return float(self.query.shape[-1]) ** -0.5 if self.scale is None else self.scale

    def ungrouped(self) -> "SDPA":
        """The same call with one head of keys and values for each head of queries."""
        if not self.enable_gqa:
            return self
        key, value = (x.repeat_interleave(self.query.shape[-3] // x.shape[-3], -3) for x in (self.key, self.value))
        return self._replace(key=key, value=value, enable_gqa=False)

    def attend(self) -> torch.Tensor:
        """Make the call."""
        # torch 2.4 does not know the last argument
        grouped: Any = {"enable_gqa": True} if self.enable_gqa else {}
        return F.scaled_dot_product_attention(*self[:6], scale=self.scale, **grouped)


def divided_sdpa(temperature: float | torch.Tensor, call: SDPA) -> torch.Tensor:
    """Return scaled_dot_product_attention of the divided logits, an additive mask included."""
    divisor, mask = broadcast_against(temperature, call.query), call.attn_mask
    if mask is not None and mask.is_floating_point():
        call = call._replace(attn_mask=(mask / divisor).clamp(min=torch.finfo(mask.dtype).min))
    if isinstance(divisor, torch.Tensor):
        return call._replace(query=call.query / divisor).attend()
    return call._replace(scale=call.factor / divisor).attend()
