"""Attention weights of one text: their statistics, a block of rows at a time, so that no n x n matrix is kept."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tempscale.spectrum.from_queries_keys import filter_rate_logits, filter_rate_qk

# Numbers in a block of rows, over all heads: 64 MiB in single precision.
_BLOCK = 2**24
# Masks are minus 10 000 or below; a logit this far below the largest of its row has the weight zero.
_MASKED = -5000.0
_TOLERANCE = 1e-5  # relative error of a filter rate


@dataclass
class AttentionCall:
    """What one call of softmax attention gets, for one text: its complete logits, or what they are made of.

    Attributes:
        value: values (heads, n, width), if known.
        logits: complete logits (heads, n, n); without them the logits are scale * query . key + mask.
        query: queries (heads, n, width), after norms, rotary embeddings and biases.
        key: keys of the shape of the queries.
        scale: factor of the products of queries and keys.
        mask: bool, True where a key is seen, or numbers to add; broadcasts to (heads, n, n).
        causal: whether keys that come later are masked, too.
    """

    value: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    query: torch.Tensor | None = None
    key: torch.Tensor | None = None
    scale: float = 1.0
    mask: torch.Tensor | None = None
    causal: bool = False

    @property
    def tokens(self) -> int:
        """The number of tokens n."""
        return self._given.shape[-2]

    @property
    def _given(self) -> torch.Tensor:
        given = self.query if self.logits is None else self.logits
        assert given is not None
        return given

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Return the logits of some rows (heads, stop - start, n), in single precision or better."""
        dtype = torch.promote_types(self._given.dtype, torch.float32)
        if self.query is None or self.key is None:
            return self._given[:, start:stop].to(dtype)
        logits = (self.query[:, start:stop].to(dtype) * self.scale) @ self.key.to(dtype).mT
        index = torch.arange(self.tokens, device=logits.device)
        if self.causal:
            logits.masked_fill_(index > index[start:stop, None], -torch.inf)
        bias = self.bias()
        return logits if bias is None else logits + bias(index[start:stop, None], index)

    def bias(self) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
        """Return the mask as numbers to add, of some rows (r, 1) and the first columns (c,): (..., r, c)."""
        mask = self.mask
        if mask is None:
            return None

        def block(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
            part = (mask if mask.shape[-2] == 1 else mask[..., rows[:, 0], :])[..., : len(columns)]
            if part.dtype is torch.bool:
                return torch.zeros(part.shape, device=part.device).masked_fill_(~part, -torch.inf)
            return part

        return block

    def filter_rate(self) -> torch.Tensor:
        """Return the filter rate of each head, (heads,)."""
        if self.query is None or self.key is None:
            return filter_rate_logits(self._given, tol=_TOLERANCE)
        return filter_rate_qk(
            self.query, self.key, scale=self.scale, bias=self.bias(), causal=self.causal, tol=_TOLERANCE
        )


@dataclass
class RowStatistics:
    """Statistics over all rows of the attention weights A, one number for each head, and A @ value."""

    logit_std: torch.Tensor
    entropy: torch.Tensor
    column_mass: torch.Tensor
    local_mass: torch.Tensor
    attended: torch.Tensor | None  # (heads, n, width)


def row_statistics(call: AttentionCall, *, window: int) -> RowStatistics:
    """Return statistics of the attention weights; the columns of `probe` say what they mean.

    Args:
        call: a call of attention.
        window: largest distance of a token that counts as local, in tokens.
    """
    n, start = call.tokens, 0
    heads = call.rows(0, 1).shape[0]
    size = max(1, _BLOCK // (heads * n))
    positions = torch.arange(n)
    parts: dict[str, list[torch.Tensor]] = {"variance": [], "entropy": [], "near": [], "attended": []}
    columns = torch.zeros(heads, n, dtype=torch.float64)
    while start < n:
        stop = min(start + size, n)
        logits, seen = _relative(call.rows(start, stop))
        columns, positions = columns.to(logits.device), positions.to(logits.device)
        count = seen.sum(-1)
        mean = logits.sum(-1) / count
        parts["variance"].append(((logits - mean[..., None]) * seen).square().sum(-1) / count)
        weights = logits.exp() * seen
        total = weights.sum(-1)
        weights /= total[..., None]
        parts["entropy"].append(total.log() - (weights * logits).sum(-1))
        near = (positions[start:stop, None] - positions).abs() <= window
        parts["near"].append((weights * near).sum(-1))
        columns += weights.sum(-2)
        if call.value is not None:
            parts["attended"].append(weights @ call.value.to(weights.dtype))
        start = stop
    over_rows = {name: torch.cat(blocks, 1).double() for name, blocks in parts.items() if blocks}
    return RowStatistics(
        logit_std=over_rows["variance"].mean(-1).sqrt(),
        entropy=over_rows["entropy"].mean(-1),
        column_mass=columns.amax(-1) / n,
        local_mass=over_rows["near"].mean(-1),
        attended=over_rows.get("attended"),
    )


def _relative(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits less the largest of their row, zero where masked; and where they are not masked."""
    logits = logits - logits.amax(-1, keepdim=True)
    seen = logits > _MASKED
    return logits.masked_fill_(~seen, 0.0), seen
