"""Softmax attention as a linear operator that is never stored: a block of rows is made, used and forgotten.

A block of the matrix, exp(logits - lse), needs the queries of its rows, all keys, and one number a row: the logarithm of the
softmax's denominator. So the n x n matrix costs n numbers of memory, and a product with it costs about what a forward
pass of attention costs.
"""

from collections.abc import Callable, Iterator

import torch

# Matrices of at most so many logits together are one block, and stay: 4 MB of float32 fit in a processor's cache.
_WHOLE = {"cpu": 1 << 20}
_WHOLE_GPU = 1 << 26
# Larger matrices are made in blocks of so many rows on a CPU; a GPU wants more work at a time and fills _WHOLE_GPU.
_ROWS = {"cpu": 64}

# The logit of a padded key. Finite, since it goes through a matrix product; its exponential is 0.
_PADDED = -1e30

# Gives the additive part of the logits of a slice of rows and the first columns: (rows, columns) -> (g, rows, columns).
BiasBlock = Callable[[slice, int], torch.Tensor]


def heads_together(n: int, device: torch.device) -> int:
    """Return how many heads of n tokens are worth computing at a time."""
    return max(1, _WHOLE.get(device.type, _WHOLE_GPU) // n**2)


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
        whole = _WHOLE.get(queries.device.type, _WHOLE_GPU)
        self._rows = n if g * n * n <= whole else _ROWS.get(queries.device.type, max(1, whole // (g * n)))
        self.real = real.to(queries.dtype).unsqueeze(-1)  # (g, n, 1)
        queries, keys = (x.masked_fill(~real.unsqueeze(-1), 0) for x in (queries, keys))
        self.count = self.real.sum(-2, keepdim=True)  # (g, 1, 1)
        # Two more channels: the product with [keys, 1, padding] takes the row's normaliser away and masks the padding.
        # Softmax ignores what all keys share; without it the logits are smaller and rounding is milder.
        shared = keys.sum(-2, keepdim=True, dtype=torch.float64) / self.count
        ones, padding = torch.ones_like(self.real), torch.where(real, 0.0, _PADDED).unsqueeze(-1)
        self._keys = torch.cat([keys - shared.to(keys.dtype), ones, padding.to(keys.dtype)], -1).mT
        self._queries = torch.cat([queries, torch.zeros_like(ones), ones], -1)
        self._buffer = queries.new_empty(g * self._rows * n)
        self._kept: torch.Tensor | None = None
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
            block, real = weights @ v[:, :columns], self.real[:, rows]
            if not self._normalised:
                reals = real.sum(-2, keepdim=True)
                mean = torch.where(known, mean, (block * real).sum(-2, keepdim=True) / reals.clamp(min=1))
                known |= reals > 0
            block.sub_(mean).mul_(real)
            w[:, :, :columns].baddbmm_(block.mT, weights)  # uᵀA: faster than Aᵀu in this layout
            u[:, rows] = block
        self._normalised = True
        rest = u.sum(-2, keepdim=True) / self.count  # what the stand-in missed, later rounding
        return u - rest * self.real, w.mT - self._column_mass * rest

    def _weights(self, rows: slice, columns: int) -> torch.Tensor:
        """Return the weights of a block, (g, rows, columns); in the first pass, find its normalisers and column masses."""
        if self._kept is not None:
            return self._kept
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
        if self._rows == self._queries.shape[1]:  # one block is the whole matrix, so it may stay
            self._kept = weights
        return weights

    def _blocks(self) -> Iterator[tuple[slice, int]]:
        """Yield the rows of each block and how many columns these rows can see."""
        n = self._queries.shape[1]
        for start in range(0, n, self._rows):
            stop = min(start + self._rows, n)
            yield slice(start, stop), stop if self._causal else n

    def _logits(self, rows: slice, columns: int) -> torch.Tensor:
        """Return logits minus the row normalisers (0 before they are known), (g, rows, columns), in the buffer."""
        queries, keys = self._queries[:, rows], self._keys[:, :, :columns]
        shape = (len(queries), queries.shape[1], columns)
        logits = self._buffer[: shape[0] * shape[1] * shape[2]].view(shape)
        torch.bmm(queries, keys, out=logits)
        if self._bias is not None:
            logits += self._bias(rows, columns)
        if self._causal:
            last = logits[:, :, rows.start :]
            last.masked_fill_(torch.ones(shape[1], shape[1], dtype=torch.bool, device=last.device).triu(1), -torch.inf)
        return logits
