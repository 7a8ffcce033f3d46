"""The largest singular values of a matrix B that is known by its products alone.

The products of a small matrix with all unit vectors are BᵀB, whose largest eigenvalue is the square of the norm of B.
Squaring loses half of the digits of the *small* singular values, but none of the largest one.

Larger matrices, and the vectors, need block Golub-Kahan-Lanczos. A block of random vectors v is pushed through B and Bᵀ
again and again; in the space that they span, the matrix is small, and its singular values (Ritz values) come up to the
largest ones of B. Golub & Kahan 1965; Musco & Musco, NeurIPS 2015, on why a random block needs only O(log n / sqrt(tol))
products, whatever the gaps between the singular values.
"""

from typing import NamedTuple, Protocol

import torch

# Columns up to which all products at once are faster than the iteration: for the 72 heads of MiniLM on two CPU cores 48
# against 120 ms at 128 tokens, 168 against 261 at 256, and 915 against 425 at 512 (tests/benchmarks/spectrum.py).
_SMALL = 256
_OVERSAMPLING = 8
# Vectors, or 8 blocks if these are more. Then the basis is compressed to its better half, and the blocks become an eighth.
_LARGEST_BASIS = 256


class Matrices(Protocol):
    """What has to be known of g matrices B."""

    together: int  # vectors that are worth multiplying at a time

    @property
    def kernel(self) -> torch.Tensor:
        """(g, n, 1), a non-zero vector with B kernel = 0; where it is 0, so are the columns of B."""

    @property
    def rounding(self) -> torch.Tensor:
        """(g, 1), the size of a singular value that rounding makes out of nothing; asked for after a product."""

    def gram(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B v, BᵀB v) for v of shape (g, n, b)."""


class Triplets(NamedTuple):
    """Largest singular values first, and their vectors as columns."""

    values: torch.Tensor  # (g, count)
    left: torch.Tensor  # (g, n, count)
    right: torch.Tensor  # (g, n, count)


def largest_singular_value(matrices: Matrices, tol: float, max_passes: int) -> torch.Tensor:
    """Return ‖B‖₂ of g matrices, (g,); a norm that rounding cannot tell from 0 is 0.

    Args:
        matrices: g matrices B of shape (n, n).
        tol: relative error of the norm of matrices with more than 256 columns; the others have the error of rounding.
        max_passes: largest number of products.

    Raises:
        RuntimeError: as in `block_lanczos`.
    """
    kernel = matrices.kernel
    g, n, _ = kernel.shape
    if n > _SMALL:
        return block_lanczos(matrices, 1, tol, max_passes).values[:, 0]
    _, gram = matrices.gram(torch.eye(n, dtype=kernel.dtype, device=kernel.device).expand(g, n, n))
    # Where rounding has made it unsymmetric, LAPACK may not converge.
    values = torch.linalg.eigvalsh((gram + gram.mT) / 2)[:, -1].clamp(min=0).sqrt()
    return torch.where(values > matrices.rounding[:, 0], values, 0)


def largest_triplets(matrices: Matrices, count: int, tol: float, max_passes: int) -> Triplets:
    """Return the `count` largest singular triplets of g matrices; values that rounding cannot tell from 0 are 0.

    Arguments and errors as in `block_lanczos`, which finds up to a quarter of all triplets of more than 256 columns; others
    are exact but for rounding.
    """
    n = matrices.kernel.shape[-2]
    if n > _SMALL and 4 * count <= n:
        return block_lanczos(matrices, count, tol, max_passes)
    return _dense_triplets(matrices, count)


def block_lanczos(matrices: Matrices, count: int, tol: float, max_passes: int) -> Triplets:
    """Return the `count` largest singular triplets of g matrices; values that rounding cannot tell from 0 are 0.

    Args:
        matrices: g matrices B of shape (n, n).
        count: number of triplets.
        tol: largest error of a value, relative to the largest singular value of its matrix.
        max_passes: largest number of products.

    Raises:
        RuntimeError: the estimated errors are above tol after max_passes products.
    """
    kernel = matrices.kernel
    g, n, _ = kernel.shape
    width = min(max(matrices.together, count + _OVERSAMPLING), n)
    most = max(_LARGEST_BASIS, 8 * width)
    generator = torch.Generator(kernel.device).manual_seed(0)
    support = kernel != 0

    def noise(columns: int) -> torch.Tensor:
        return torch.randn(g, n, columns, generator=generator, dtype=kernel.dtype, device=kernel.device) * support

    # Vectors are rows here, so that a new block goes behind the others without moving them.
    basis = kernel.new_empty(g, 1 + most, n)
    basis[:, :1] = (kernel / torch.linalg.vector_norm(kernel, dim=-2, keepdim=True)).mT
    v, u, w = basis[:, 1:], kernel.new_empty(g, most, n), kernel.new_empty(g, most, n)
    small = torch.zeros(g, most, most, dtype=torch.float64, device=kernel.device)  # u uᵀ, of which eigh reads one half
    size = known = 0
    block = _orthonormal(noise(width), basis[:, :1]) * support
    for _ in range(max_passes):
        new = slice(size, size + width)
        block_u, block_w = matrices.gram(block)
        v[:, new], u[:, new], w[:, new] = block.mT, block_u.mT, block_w.mT
        size += width
        small[:, known:size, :size] = (u[:, known:size] @ u[:, :size].mT).double()
        known = size
        squares, mixing = torch.linalg.eigh(small[:, :size, :size])
        squares, mixing = squares.flip(-1).clamp(min=0), mixing.mT.flip(-2).to(v.dtype)
        found, error = _triplets(v[:, :size], u[:, :size], w[:, :size], squares, mixing[:, :count])
        floor = matrices.rounding
        values = torch.where(found.values > floor, found.values, 0)
        if (error <= tol * values[:, :1] + floor).all():
            return found._replace(values=values)
        full = size + width > most
        if full:  # more values are close together than a block has vectors
            block_w = torch.cat([block_w, noise(most // 8 - width)], -1)
        block = _orthonormal(block_w, basis[:, : 1 + size]) * support
        if full:
            width = most // 8
            for vectors in (v, u, w):
                vectors[:, : most // 2] = mixing[:, : most // 2] @ vectors[:, :size]
            size, known = most // 2, 0
    worst = (error / values[:, :1]).max().item()
    raise RuntimeError(
        f"singular values reached a relative error of {worst:.1e} in {max_passes} passes, not tol={tol:.1e}: "
        "allow more passes or a larger tol"
    )


def _triplets(
    v: torch.Tensor, u: torch.Tensor, w: torch.Tensor, squares: torch.Tensor, mixing: torch.Tensor
) -> tuple[Triplets, torch.Tensor]:
    """Return the best triplets in the span of v, where u = B v and w = BᵀB v, and estimates of the values' errors."""
    count = mixing.shape[-2]
    values = squares[:, :count].sqrt()
    right, left = mixing @ v, mixing @ u / values.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1)
    residual = torch.linalg.vector_norm(mixing @ w - right * squares[:, :count, None], dim=-1)
    # An eigenvalue of BᵀB lies within the residual r of a Ritz value, and within r² / gap if all others are a gap away. The
    # gap to a later Ritz value, with the residuals of those between, would stop too early: more values may hide between.
    distance = (squares[:, None, :] - squares[:, :count, None]).abs()
    distance.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    gap = distance.amin(-1)
    square_error = torch.where(residual < gap, residual**2 / gap, residual)
    error = (squares[:, :count] + square_error).sqrt() - values
    return Triplets(values.to(v.dtype), left.to(v.dtype).mT, right.mT), error


def _dense_triplets(matrices: Matrices, count: int) -> Triplets:
    """Return the `count` largest singular triplets by a dense decomposition: faster when count is a good part of n."""
    kernel = matrices.kernel
    g, n, _ = kernel.shape
    b = matrices.gram(torch.eye(n, dtype=kernel.dtype, device=kernel.device).expand(g, n, n))[0].double()
    unit = (kernel / torch.linalg.vector_norm(kernel, dim=-2, keepdim=True)).double()
    # B neither takes nor gives what is constant or padded. Made the largest part of the matrix, that comes first, and what
    # follows it are patterns, also those whose value is 0.
    idle = unit @ unit.mT + torch.diag_embed((kernel[..., 0] == 0).double())
    left, values, right = torch.linalg.svd(b + (1 + 2 * torch.linalg.matrix_norm(b, keepdim=True)) * idle)
    wanted = 1 + (kernel == 0).sum(-2) + torch.arange(count, device=kernel.device)  # (g, count)
    exists, wanted = wanted < n, wanted.clamp(max=n - 1)
    values = values.gather(-1, wanted)
    values = torch.where(exists & (values > matrices.rounding), values, 0)
    columns, support = wanted.unsqueeze(-2).expand(g, n, count), kernel != 0
    left = left.gather(-1, columns) * support * (values > 0).unsqueeze(-2)
    right = right.mT.gather(-1, columns) * support * exists.unsqueeze(-2)
    return Triplets(values.to(kernel.dtype), left.to(kernel.dtype), right.to(kernel.dtype))


def _orthonormal(x: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return orthonormal columns that add to the rows of the basis what x adds to them; a column that adds nothing is 0."""
    eps = torch.finfo(x.dtype).eps * x.shape[-2] ** 0.5
    size = torch.linalg.vector_norm(x, dim=-2)
    x, r = torch.linalg.qr(x - basis.mT @ (basis @ x))
    x = x * (r.diagonal(dim1=-2, dim2=-1).abs() > 4 * eps * size).unsqueeze(-2)
    # Once more, against what rounding left. A combination of columns that now loses most of its length was rounding itself.
    x = x - basis.mT @ (basis @ x)
    lengths, turn = torch.linalg.eigh(x.mT @ x)
    kept: torch.Tensor = turn * torch.where(lengths > 0.25, lengths.clamp(min=0.25).rsqrt(), 0).unsqueeze(-2)
    return x @ kept
