"""The filter rate and the singular patterns of attention from its queries and keys, in memory linear in the tokens."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from tempscale.arrays import Array, at_least_float32, floating, like
from tempscale.blocked_attention import CentredAttention, heads_together
from tempscale.krylov import Triplets, block_lanczos

Bias: TypeAlias = Any  # an array, or a function of the indices of queries and keys


class SingularPatterns(NamedTuple):
    """The patterns that attention lets through: (I - J) A right = values * left, most amplified first.

    `right` are the patterns of the input and `left` the patterns of the output, orthonormal columns over the tokens.
    """

    values: Any  # (..., count)
    left: Any  # (..., n, count)
    right: Any  # (..., n, count)


def filter_rate_qk(
    q: Array,
    k: Array,
    *,
    scale: float | None = None,
    temperature: float | Sequence[float] | Array = 1.0,
    bias: Bias = None,
    mask: Any = None,
    causal: bool = False,
    tol: float = 1e-4,
    max_passes: int = 50,
) -> Array:
    """Return the filter rate σₐ = ‖(I - J) A‖₂ of A = softmax((scale q kᵀ + bias) / temperature), storing no n x n matrix.

    Args:
        q, k: (..., n, d) queries and keys, floating point, of one shape; repeat grouped key heads first. float16 and
            bfloat16 are computed in float32.
        scale: factor of q kᵀ; 1/√d if None.
        temperature: a positive number, or a 1-D sequence of T of them: then the result has a leading axis of T.
        bias: added to the scaled logits, before the temperature; -inf masks. Broadcastable to (..., n, n), or a function
            bias(i, j) of index tensors of shapes (rows, 1) and (columns,) that returns (..., rows, columns) and keeps the
            bias, too, from being stored.
        mask: bool, broadcastable to (..., n), True for real tokens. Padded keys get no weight, padded queries are
            no part of the signal, and J averages over the n real tokens.
        causal: token i looks at tokens 0 to i alone.
        tol: relative error of the rate, by an estimate from residuals (below).
        max_passes: passes over the matrix allowed.

    Returns:
        (...) or (T, ...) filter rates, without unit; float32 or float64. A rate that rounding cannot tell from 0 is 0.

    Raises:
        ValueError: shapes, types or values outside the above; a text without a real token; logits that are not finite.
        RuntimeError: tol is not reached in max_passes.

    What tol means: the result is the gain σ = ‖(I - J) A v‖ of some unit vector v, so up to rounding it is never too large.
    With the residual r = ‖((I - J) A)ᵀ(I - J) A v - σ² v‖ some singular value lies within r/σ of it; the estimated error,
    min(r, r²/gap)/(2σ) with the gap to the next Ritz value, is at most tol σ. That no larger singular value was overlooked
    holds with high probability over the random start (of fixed seed), not with certainty.

    Source: Theorem 2 of arXiv 2410.24200; block Lanczos: `tempscale.krylov`.

    >>> q, k = torch.randn(2, 4, 300, 32), torch.zeros(2, 4, 300, 32)
    >>> filter_rate_qk(q, k).shape, filter_rate_qk(q, k).max().item()  # keys that are all alike: uniform attention
    (torch.Size([2, 4]), 0.0)
    >>> rates = filter_rate_qk(q, q, temperature=[0.5, 1.0, 2.0])
    >>> rates.shape, bool((rates[0] > rates[2]).all())
    (torch.Size([3, 2, 4]), True)
    """
    found = _patterns(q, k, 1, scale, temperature, bias, mask, causal, tol, max_passes)
    return like(found.values[..., 0], q)


def singular_patterns_qk(
    q: Array,
    k: Array,
    count: int,
    *,
    scale: float | None = None,
    temperature: float | Sequence[float] | Array = 1.0,
    bias: Bias = None,
    mask: Any = None,
    causal: bool = False,
    tol: float = 1e-4,
    max_passes: int = 50,
) -> SingularPatterns:
    """Return the `count` largest singular values of (I - J) A with their vectors: which patterns of tokens survive.

    Arguments, errors and source as in `filter_rate_qk`; tol is relative to the largest value. Each vector has its largest
    entry of `right` positive, and 0 at padded tokens. Where a value is 0, `left` is 0.

    Args:
        q: (..., n, d) queries.
        k: (..., n, d) keys.
        count: from 1 to n - 1.
        scale: as in `filter_rate_qk`, like all that follow.
        temperature: a sequence of T gives a leading axis of T everywhere.
        bias: additive.
        mask: True for real tokens.
        causal: token i looks at tokens 0 to i alone.
        tol: relative error.
        max_passes: passes allowed.

    Returns:
        `SingularPatterns(values, left, right)` of shapes (..., count), (..., n, count), (..., n, count).

    Raises:
        ValueError, RuntimeError: as in `filter_rate_qk`; or count is out of range.

    >>> q = k = torch.eye(6) * 100  # every token looks at itself
    >>> singular_patterns_qk(q, k, 2).values
    tensor([1.0000, 1.0000])
    """
    n = floating(q).shape[-2]
    if not 1 <= count < n:
        raise ValueError(
            f"count={count}, but the {n} tokens of a text have 1 to {n - 1} patterns that are not constant"
        )
    found = _patterns(q, k, count, scale, temperature, bias, mask, causal, tol, max_passes)
    position = found.right.abs().argmax(-2, keepdim=True)
    sign = torch.where(found.right.gather(-2, position) < 0, -1.0, 1.0).to(found.right.dtype)
    return SingularPatterns(like(found.values, q), like(found.left * sign, q), like(found.right * sign, q))


def _patterns(
    q: Array,
    k: Array,
    count: int,
    scale: float | None,
    temperature: float | Sequence[float] | Array,
    bias: Bias,
    mask: Any,
    causal: bool,
    tol: float,
    max_passes: int,
) -> Triplets:
    """Check the arguments and find the triplets of every head at every temperature."""
    queries, keys = (at_least_float32(floating(x)).detach() for x in (q, k))
    if queries.shape != keys.shape or queries.dtype != keys.dtype or queries.shape[-1] == 0:
        raise ValueError(
            f"expected q and k of one shape (..., n, d), d >= 1, and one dtype, not {tuple(queries.shape)} {queries.dtype} "
            f"and {tuple(keys.shape)} {keys.dtype}: repeat grouped key heads first"
        )
    *batch, n, d = queries.shape
    scale = d**-0.5 if scale is None else scale
    if not math.isfinite(scale):
        raise ValueError(f"scale={scale}, but the logits need a finite factor")
    smallest = 4 * torch.finfo(queries.dtype).eps
    if not smallest <= tol < 1 or max_passes < 1:
        raise ValueError(
            f"tol={tol} and max_passes={max_passes}: expected {smallest:.1e} <= tol < 1, which {queries.dtype} can resolve, "
            "and at least one pass"
        )
    temperatures: torch.Tensor = _temperatures(temperature)
    real = _real(mask, batch, n, queries.device)
    blocks = _bias(bias, batch, n, queries)

    queries, keys, real = queries.reshape(-1, n, d), keys.reshape(-1, n, d), real.reshape(-1, n)
    together = heads_together(n, queries.device)
    results = []
    with torch.no_grad():
        for tau in temperatures.flatten().tolist():
            for start in range(0, len(queries), together):
                heads = slice(start, start + together)
                attention = CentredAttention(
                    queries[heads] * (scale / tau),
                    keys[heads],
                    partial(blocks, heads, tau) if blocks else None,
                    real[heads],
                    causal,
                )
                results.append(block_lanczos(attention, count, tol, max_passes))
    leading = [*temperatures.shape, *batch]
    return Triplets(*(torch.cat(x).reshape(*leading, *x[0].shape[1:]) for x in zip(*results, strict=True)))


def _temperatures(temperature: Any) -> torch.Tensor:
    """Return one temperature (no axis) or several (one axis), in float64."""
    temperatures = torch.as_tensor(temperature, dtype=torch.float64)
    if temperatures.ndim > 1 or temperatures.numel() == 0:
        raise ValueError(
            f"temperature of shape {tuple(temperatures.shape)}: expected a number or a 1-D sequence of numbers"
        )
    if not ((temperatures > 0) & temperatures.isfinite()).all():
        raise ValueError(f"temperature={temperature}, but a temperature is a finite positive number")
    return temperatures


def _real(mask: Any, batch: list[int], n: int, device: torch.device) -> torch.Tensor:
    """Return which tokens are real, (*batch, n)."""
    if mask is None:
        return torch.ones(*batch, n, dtype=torch.bool, device=device)
    mask = torch.as_tensor(mask, device=device)
    if mask.dtype != torch.bool:
        raise ValueError(f"expected a boolean mask, True for real tokens, not {mask.dtype}: convert it with .bool()")
    real = _expand(mask, [*batch, n], "mask")
    if not real.any(-1).all():
        text = tuple(int(i) for i in (~real.any(-1)).nonzero()[0])
        raise ValueError(f"no token of text {text} is real, so it has no filter rate: leave it out")
    return real


def _bias(
    bias: Bias, batch: list[int], n: int, queries: torch.Tensor
) -> Callable[[slice, float, slice, int], torch.Tensor] | None:
    """Return a function that gives bias / tau of (heads, tau, rows, columns), heads being a slice of the flattened batch."""
    if bias is None:
        return None
    if not callable(bias):
        array = floating(bias).to(queries.device).detach()
        whole = _expand(array, [*batch, n, n], "bias")  # a view
    index = torch.arange(n, device=queries.device)

    def block(heads: slice, tau: float, rows: slice, columns: int) -> torch.Tensor:
        size = [*batch, len(index[rows]), columns]
        if callable(bias):
            part = _expand(bias(index[rows, None], index[:columns]), size, "bias")
        else:
            part = whole[..., rows, :columns]
        # Indexing one head at a time keeps what is broadcast over heads from being copied for all of them.
        ids = np.unravel_index(np.arange(math.prod(batch))[heads], batch) if batch else [[]]
        return (
            torch.stack([part[tuple(i)] for i in zip(*ids, strict=True)] if batch else [part]).to(queries.dtype) / tau
        )

    return block


def _expand(x: torch.Tensor, shape: list[int], name: str) -> torch.Tensor:
    try:
        return x.expand(shape)
    except RuntimeError:
        raise ValueError(f"{name} of shape {tuple(x.shape)} cannot be broadcast to {tuple(shape)}") from None
