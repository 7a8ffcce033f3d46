"""Statistics of attention weights, computed a block of rows at a time: no n x n matrix is kept."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

# Numbers in a block of rows, over all heads: 64 MiB in single precision.
_BLOCK = 2**24
# Masks are minus 10 000 or below, and so far below its row's largest logit a weight is zero.
_MASKED = -5000.0

# From the first and last row of a block to its complete logits (heads, rows, n) in single precision or better.
Rows = Callable[[int, int], torch.Tensor]


@dataclass
class Weights:
    """What `summarise` returns: each tensor has one number for each head."""

    logit_std: torch.Tensor
    entropy: torch.Tensor
    column_mass: torch.Tensor
    local_mass: torch.Tensor
    attended: torch.Tensor | None


def summarise(rows: Rows, n: int, *, window: int, value: torch.Tensor | None = None) -> Weights:
    """Return statistics of A = softmax(S) over all rows.

    Args:
        rows: the logits S, a block of rows at a time.
        n: number of tokens.
        window: local is what is at most so many tokens away.
        value: (heads, n, width), to get A @ value as `attended`.
    """
    heads, start = rows(0, 1).shape[0], 0
    size = max(1, _BLOCK // (heads * n))
    positions = torch.arange(n)
    parts: dict[str, list[torch.Tensor]] = {"variance": [], "entropy": [], "near": [], "attended": []}
    columns = torch.zeros(heads, n, dtype=torch.float64)
    while start < n:
        stop = min(start + size, n)
        logits, seen = centred(rows(start, stop))
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
        if value is not None:
            parts["attended"].append(weights @ value.to(weights.dtype))
        start = stop
    over_rows = {name: torch.cat(blocks, 1).double() for name, blocks in parts.items() if blocks}
    return Weights(
        logit_std=over_rows["variance"].mean(-1).sqrt(),
        entropy=over_rows["entropy"].mean(-1),
        column_mass=columns.amax(-1) / n,
        local_mass=over_rows["near"].mean(-1),
        attended=over_rows.get("attended"),
    )


def centred(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits less the largest of their row, zero where masked; and where they are not masked."""
    logits = logits - logits.amax(-1, keepdim=True)
    seen = logits > _MASKED
    return logits.masked_fill_(~seen, 0.0), seen


def attention(rows: Rows, n: int) -> torch.Tensor:
    """Return all weights (heads, n, n), for short texts."""
    logits, seen = centred(rows(0, n))
    weights = logits.exp() * seen
    return weights / weights.sum(-1, keepdim=True)


def logit_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> Rows:
    """Return the complete logits of queries and keys (heads, n, width), as `summarise` wants them.

    Args:
        query: after norms, rotary embeddings and biases.
        key: the same; as many heads.
        scale: the logits are scale * query . key + mask.
        mask: broadcasts to (heads, n, n): boolean, True where a key is seen, or numbers to add.
        causal: mask the keys that come later.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    query, key = query.to(dtype) * scale, key.to(dtype)
    positions = torch.arange(query.shape[-2], device=query.device)

    def rows(start: int, stop: int) -> torch.Tensor:
        logits = query[:, start:stop] @ key.mT
        if causal:
            logits.masked_fill_(positions > positions[start:stop, None], -torch.inf)
        if mask is None:
            return logits
        block = mask if mask.shape[-2] == 1 else mask[..., start:stop, :]
        return logits.masked_fill_(~block, -torch.inf) if block.dtype is torch.bool else logits + block

    return rows
