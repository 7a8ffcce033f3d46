"""The filter rate and the singular patterns of attention from its queries and keys; of long texts in memory linear in them.

`filter_rate_qk` and `singular_patterns_qk` check their arguments and make one `CentredAttention` after the other: matrices
(I - J) A of some heads, made in blocks of rows, which stay up to a fixed size and are made anew in each pass beyond it. What
they ask of it are products with thin matrices, and from these `tempscale.spectrum.lanczos` finds the singular values.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from tempscale.spectrum.lanczos import largest_singular_value, largest_triplets
from tempscale.spectrum.signals import Array, at_least_float32, floating, like

Bias: TypeAlias = Any  # an array, or a function of the indices of queries and keys
# The additive part of the logits of a slice of rows and the first columns: (rows, columns) -> (g, rows, columns).
BiasBlock = Callable[[slice, int], torch.Tensor]

# Logits of a block of rows: 4 MB of float32 fit in a processor's cache; a GPU wants more work at a time.
_BLOCK = {"cpu": 1 << 20}
_BLOCK_GPU = 1 << 26
_ROWS = 64  # of a block, at least
# Logits that stay once they are made: of 5792 tokens, 128 MiB of float32; on a GPU, of one block.
_KEPT = {"cpu": 1 << 25}
# Vectors that go through the matrix together. They share the cost of making it, and 32 need the fewest passes; where a
# CPU keeps it, twice as many vectors take twice the time, and 16 need less than twice the passes of 32.
_TOGETHER, _TOGETHER_KEPT = 32, {"cpu": 16}

# The logit of a padded key. Finite, since it goes through a matrix product; its exponential is 0.
_PADDED = -1e30


class SingularPatterns(NamedTuple):
    """The patterns that attention lets through: (I - J) A right = values * left, most amplified first.

    `right` are the patterns of the input and `left` the patterns of the output, orthonormal columns over the tokens.
    """

    values: Any  # (..., count)
    left: Any  # (..., n, count)
    right: Any  # (..., n, count)


@torch.no_grad()
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
    max_passes: int = 100,
) -> Array:
    """Return the filter rate σₐ = ‖(I - J) A‖₂ of A = softmax((scale q kᵀ + bias) / temperature).

    The n x n matrix of a long text is never stored. On a CPU a text is long from 5793 tokens on; of shorter ones, one
    matrix is stored at a time, in up to 128 MiB in float32 and 256 MiB in float64. On a GPU, as many matrices are stored as
    have 2^26 numbers together.

    Args:
        q, k: (..., n, d) queries and keys, floating point, of one shape; repeat grouped key heads first. float16 and
            bfloat16 are computed in float32, also under autocast.
        scale: factor of q kᵀ; 1/√d if None.
        temperature: a positive number, or a 1-D sequence of T of them: then the result has a leading axis of T.
        bias: numbers added to the scaled logits before the temperature, broadcastable to (..., n, n); -inf masks. Or a
            function bias(i, j) of index tensors of shapes (rows, 1) and (columns,) that returns (..., rows, columns), a
            tensor or an array, and keeps the bias, too, from being stored.
        mask: bool, broadcastable to (..., n), True for real tokens; of one text a row (batch, n) needs an axis for the
            heads, mask[:, None]. Padded keys get no weight, padded queries are no part of the signal whatever they see,
            and J averages over the n real tokens.
        causal: token i looks at tokens 0 to i alone.
        tol: relative error of the rate for more than 256 tokens, by an estimate from residuals (below).
        max_passes: largest number of passes over the matrix.

    Returns:
        (...) or (T, ...) filter rates, without unit; float32 or float64. A rate that rounding cannot tell from 0 is 0.
        Without heads, in an empty batch, there are no rates.

    Raises:
        ValueError: shapes, types or values outside the above; a text without a real token; logits that are not finite.
        RuntimeError: tol is not reached in max_passes.

    The rate of up to 256 tokens is exact but for rounding: an absolute error of a few units in the last place of 1, times
    the root of the largest column sum of A.

    What tol means for more tokens: the result is the gain σ = ‖(I - J) A v‖ of some unit vector v, so up to rounding it is
    never too large. With the residual r = ‖((I - J) A)ᵀ(I - J) A v - σ² v‖ some singular value lies within r/σ of it; the
    estimated error, min(r, r²/gap)/(2σ) with the gap to the next Ritz value, is at most tol σ. That no larger singular value
    was overlooked holds with high probability over the random start (of fixed seed), not with certainty.

    Source: Theorem 2 of arXiv 2410.24200; block Lanczos: `tempscale.spectrum.lanczos`.

    >>> q, k = torch.randn(2, 4, 300, 32), torch.zeros(2, 4, 300, 32)
    >>> filter_rate_qk(q, k).shape, filter_rate_qk(q, k).max().item()  # keys that are all alike: uniform attention
    (torch.Size([2, 4]), 0.0)
    >>> rates = filter_rate_qk(q, q, temperature=[0.5, 1.0, 2.0])
    >>> rates.shape, bool((rates[0] > rates[2]).all())
    (torch.Size([3, 2, 4]), True)
    """
    with _full_precision(q):
        matrices, shape = _matrices(q, k, scale, temperature, bias, mask, causal, tol, max_passes)
        rates = [largest_singular_value(each, tol, max_passes) for each in matrices]
    return like(torch.cat(rates).reshape(shape), q)


def filter_rate_logits(logits: torch.Tensor, *, tol: float = 1e-4, max_passes: int = 100) -> torch.Tensor:
    """Return the filter rate of softmax(logits), where a model has complete logits and not queries and keys alone.

    Args:
        logits: (..., n, n) floating point; -inf masks.
        tol: relative error of the rate, as in `filter_rate_qk`.
        max_passes: largest number of passes over the matrix.

    Returns:
        (...) filter rates.

    Raises:
        ValueError, RuntimeError: as in `filter_rate_qk`.

    >>> filter_rate_logits(torch.zeros(2, 5, 5))
    tensor([0., 0.])
    """
    nothing = logits.new_zeros(*logits.shape[:-1], 1)
    return filter_rate_qk(nothing, nothing, bias=logits, tol=tol, max_passes=max_passes)


@torch.no_grad()
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
    max_passes: int = 100,
) -> SingularPatterns:
    """Return the `count` largest singular values of (I - J) A with their vectors: which patterns of tokens survive.

    Arguments, errors and source as in `filter_rate_qk`; tol is relative to the largest value. Each vector has its largest
    entry of `right` positive, and 0 at padded tokens. Where a value is 0, `left` is 0.

    Args:
        q: (..., n, d) queries.
        k: (..., n, d) keys.
        count: number of patterns, from 1 to n - 1.
        scale: factor of q kᵀ, as in `filter_rate_qk`, like all that follow.
        temperature: a positive number, or T of them: then all results have a leading axis of T.
        bias: part of the logits that is added.
        mask: bool, True for real tokens.
        causal: token i looks at tokens 0 to i alone.
        tol: relative error of the values, for any number of tokens.
        max_passes: largest number of passes over the matrix.

    Returns:
        `SingularPatterns(values, left, right)` of shapes (..., count), (..., n, count), (..., n, count).

    Raises:
        ValueError, RuntimeError: as in `filter_rate_qk`; or count is out of range.

    >>> q = k = torch.eye(6) * 100  # every token looks at itself
    >>> singular_patterns_qk(q, k, 2).values
    tensor([1., 1.])
    """
    n = floating(q).shape[-2]
    if not 1 <= count < n:
        raise ValueError(
            f"count={count}, but the {n} tokens of a text have 1 to {n - 1} patterns that are not constant"
        )
    with _full_precision(q):
        matrices, shape = _matrices(q, k, scale, temperature, bias, mask, causal, tol, max_passes)
        found = zip(*(largest_triplets(each, count, tol, max_passes) for each in matrices), strict=True)
    values, left, right = (torch.cat(x).reshape(*shape, *x[0].shape[1:]) for x in found)
    sign = torch.where(right.gather(-2, right.abs().argmax(-2, keepdim=True)) < 0, -1.0, 1.0).to(right.dtype)
    return SingularPatterns(like(values, q), like(left * sign, q), like(right * sign, q))


def _full_precision(q: Any) -> torch.autocast:
    return torch.autocast(torch.as_tensor(q).device.type, enabled=False)


def _matrices(
    q: Array,
    k: Array,
    scale: float | None,
    temperature: float | Sequence[float] | Array,
    bias: Bias,
    mask: Any,
    causal: bool,
    tol: float,
    max_passes: int,
) -> tuple["Iterator[CentredAttention]", list[int]]:
    """Check the arguments; return the matrices of all temperatures and heads, some heads at a time, and the leading axes."""
    queries, keys = (at_least_float32(floating(x)).detach() for x in (q, k))
    *batch, n, d = queries.shape
    if queries.shape != keys.shape or d == 0:
        if queries.shape[-2:] == keys.shape[-2:] and d > 0:
            remedy = "repeat grouped key heads first"
        elif n != keys.shape[-2]:
            remedy = f"{n} queries and {keys.shape[-2]} keys, but a rate belongs to tokens that look at one another"
        else:
            remedy = "a query and a key have the same number of channels, at least one"
        raise ValueError(
            f"expected q and k of one shape (..., n, d), not {tuple(queries.shape)} and {tuple(keys.shape)}: {remedy}"
        )
    if queries.dtype != keys.dtype:
        raise ValueError(f"expected q and k of one dtype, not {queries.dtype} and {keys.dtype}: convert one of them")
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
    together = max(1, _BLOCK.get(queries.device.type, _BLOCK_GPU) // n**2)  # heads

    def matrices() -> Iterator[CentredAttention]:
        for tau in temperatures.flatten().tolist():
            for start in range(0, max(1, len(queries)), together):  # no heads are one matrix of none
                heads = slice(start, start + together)
                block = partial(blocks, heads, tau) if blocks else None
                yield CentredAttention(queries[heads] * (scale / tau), keys[heads], block, real[heads], causal)

    return matrices(), [*temperatures.shape, *batch]


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
    texts = mask.shape[:-1]
    if 0 < len(texts) < len(batch) and list(texts) == batch[: len(texts)] and math.prod(texts) > 1:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} may belong to the first or to the last of the axes {tuple(batch)}: expected "
            "(batch, 1, n), a row for all heads of a text, mask[:, None], or (1, heads, n), a row for a head of all texts"
        )
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
    places = list(np.ndindex(*batch))

    def block(heads: slice, tau: float, rows: slice, columns: int) -> torch.Tensor:
        size = [*batch, len(index[rows]), columns]
        if callable(bias):
            given = torch.as_tensor(bias(index[rows, None], index[:columns]), device=queries.device)
            part = _expand(given, size, "bias")
        else:
            part = whole[..., rows, :columns]
        # One head at a time: what is broadcast over heads is not copied for all of them.
        added = queries.new_empty(len(places[heads]), *size[-2:])
        for head, place in zip(added, places[heads], strict=True):
            head.copy_(part[place])
        return added.div_(tau)

    return block


def _expand(x: torch.Tensor, shape: list[int], name: str) -> torch.Tensor:
    try:
        return x.expand(shape)
    except RuntimeError:
        raise ValueError(f"{name} of shape {tuple(x.shape)} cannot be broadcast to {tuple(shape)}") from None


class CentredAttention:
    """The matrices (I - J) A of g heads, A = softmax(queries keysᵀ + bias), through products with thin matrices.

    Rows and columns of padded tokens are zero, and J averages over the real ones.

    Args:
        queries: (g, n, d), already multiplied by scale / temperature.
        keys: (g, n, d).
        bias: gives blocks of (g, n, n), already divided by the temperature; None for no bias.
        real: (g, n) bool, False for padding.
        causal: token i looks at tokens 0 to i alone.
    """

    def __init__(
        self, queries: torch.Tensor, keys: torch.Tensor, bias: BiasBlock | None, real: torch.Tensor, causal: bool
    ) -> None:
        g, n, _ = queries.shape
        self._bias, self._causal = bias, causal
        kind = queries.device.type
        block = _BLOCK.get(kind, _BLOCK_GPU)
        self._rows = min(n, max(_ROWS, block // max(1, g * n)))
        self._keeps = g * n * n <= _KEPT.get(kind, block)
        self.together = _TOGETHER_KEPT.get(kind, _TOGETHER) if self._keeps else _TOGETHER
        self.real = real.to(queries.dtype).unsqueeze(-1)  # (g, n, 1)
        queries, keys = (x.masked_fill(~real.unsqueeze(-1), 0) for x in (queries, keys))
        self.count = self.real.sum(-2, keepdim=True)  # (g, 1, 1)
        # Two more channels: the product with [keys, 1, padding] takes the row's normaliser away and masks the padding.
        # Softmax ignores what all keys share; without it the logits are smaller and rounding is milder.
        shared = keys.sum(-2, keepdim=True, dtype=torch.float64) / self.count
        ones, padding = torch.ones_like(self.real), torch.where(real, 0.0, _PADDED).unsqueeze(-1)
        self._keys = torch.cat([keys - shared.to(keys.dtype), ones, padding.to(keys.dtype)], -1).mT
        self._queries = torch.cat([queries, torch.zeros_like(ones), ones], -1)
        self._buffer = _empty(g * n * (n if self._keeps else self._rows), queries)
        self._normalised = False
        self._column_mass = queries.new_zeros(g, n, 1)  # Aᵀ1, what all rows together give to a column

    @property
    def kernel(self) -> torch.Tensor:
        """A vector with (I - J) A kernel = 0: ones, 0 at padding. (g, n, 1)."""
        return self.real

    @property
    def rounding(self) -> torch.Tensor:
        """What rounding leaves of a matrix whose rows are all alike, known after the first product. (g, 1)."""
        return 8 * torch.finfo(self.real.dtype).eps * self._column_mass.amax(-2).sqrt()

    def gram(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return u = (I - J) A v and w = Aᵀ(I - J) u for v of shape (g, n, b), in one pass over the blocks.

        The pass is single because the mean row of A v is known before: it is column_massᵀ v / n. Only in the first pass it
        is not; then the mean of the first real rows stands in, and u and w are corrected at the end. A stand-in of zero
        would do but for rounding, which must stay small against u even if all rows are nearly the same.
        """
        mean = self._column_mass.mT @ v / self.count
        known = torch.full_like(self.count, self._normalised, dtype=torch.bool)
        u, w = torch.empty_like(v), torch.zeros_like(v.mT, memory_format=torch.contiguous_format)
        for rows, columns in self._blocks():
            weights = self._weights(rows, columns)
            block = torch.bmm(weights, v[:, :columns], out=u[:, rows])
            real = self.real[:, rows]
            if not self._normalised:
                reals = real.sum(-2, keepdim=True)
                mean = torch.where(known, mean, (block * real).sum(-2, keepdim=True) / reals.clamp(min=1))
                known |= reals > 0
            block.sub_(mean).mul_(real)
            w[:, :, :columns].baddbmm_(block.mT, weights)  # uᵀA: faster than Aᵀu in this layout
        self._normalised = True
        rest = u.sum(-2, keepdim=True) / self.count  # what the stand-in missed, later rounding
        return u - rest * self.real, w.mT - self._column_mass * rest

    def _weights(self, rows: slice, columns: int) -> torch.Tensor:
        """Return the weights of a block, (g, rows, columns); in the first pass, find its normalisers and column masses."""
        if self._keeps and self._normalised:
            return self._block(rows, columns)
        logits = self._logits(rows, columns)
        if self._normalised:
            return logits.exp_()
        largest = logits.amax(-1, keepdim=True)
        total = logits.sub_(largest).exp_().sum(-1, keepdim=True)
        normaliser = largest + total.log()
        real = self.real[:, rows]
        if not (normaliser.isfinite() & (normaliser > _PADDED / 2))[real > 0].all():
            raise ValueError(
                f"a token in rows {rows.start} to {rows.stop - 1} has no weight to give, its logits are not finite: "
                "pass finite q and k, and leave at least one key that bias does not mask"
            )
        self._queries[:, rows, -2:-1] = -normaliser
        weights = logits.div_(total)
        self._column_mass[:, :columns].baddbmm_(weights.mT, real)
        return weights

    def _blocks(self) -> Iterator[tuple[slice, int]]:
        """Yield the rows of each block and how many columns these rows can see."""
        n = self._queries.shape[1]
        for start in range(0, n, self._rows):
            stop = min(start + self._rows, n)
            yield slice(start, stop), stop if self._causal else n

    def _logits(self, rows: slice, columns: int) -> torch.Tensor:
        """Return logits minus the row normalisers (0 before they are known), (g, rows, columns), in the buffer."""
        logits = torch.bmm(self._queries[:, rows], self._keys[:, :, :columns], out=self._block(rows, columns))
        if self._bias is not None:
            logits += self._bias(rows, columns)
            logits.masked_fill_(self.real[:, rows] == 0, 0)  # -inf at padding is no number to go on with
        if self._causal:
            last = logits[:, :, rows.start :]
            last.masked_fill_(torch.ones(last.shape[1:], dtype=torch.bool, device=last.device).triu(1), -torch.inf)
        return logits

    def _block(self, rows: slice, columns: int) -> torch.Tensor:
        """Return the part of the buffer for a block, (g, rows, columns)."""
        g, n, _ = self._queries.shape
        start = g * n * rows.start if self._keeps else 0
        shape = g, rows.stop - rows.start, columns
        return self._buffer[start : start + math.prod(shape)].view(shape)


def _empty(size: int, like: torch.Tensor) -> torch.Tensor:
    """Return memory for numbers like these. On a CPU NumPy's, which asks for huge pages: that saves up to 20 ms in 64 MB."""
    if like.device.type != "cpu":
        return like.new_empty(size)
    return torch.from_numpy(np.empty(size, like.new_empty(0).numpy().dtype))
