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
_BLOCK = 32  # vectors that go through the matrix together: they share the cost of making it
_OVERSAMPLING = 8
_LARGEST_BASIS = 8  # blocks; then the basis is compressed to its best two blocks (thick restart)


class Matrices(Protocol):
    """What has to be known of g matrices B."""

    @property
    def kernel(self) -> torch.Tensor:
        """(g, n, 1), a non-zero vector with B kernel = 0; where it is 0, so are the columns of B."""

    @property
    def rounding(self) -> torch.Tensor:
        """(g, 1), the size of a singular value that rounding makes out of nothing; asked for after a product."""

    def gram(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B v, BᵀB v) for v of shape (g, n, b)."""


class Triplets(NamedTuple):
    """Largest singular values first, and their vectors as columns; `error` estimates the error of the values."""

    values: torch.Tensor  # (g, count)
    left: torch.Tensor  # (g, n, count)
    right: torch.Tensor  # (g, n, count)
    error: torch.Tensor  # (g, count)


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
    values = torch.linalg.eigvalsh(gram)[:, -1].clamp(min=0).sqrt()
    return torch.where(values > matrices.rounding[:, 0], values, 0)


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
    width = min(max(_BLOCK, count + _OVERSAMPLING), n)
    generator = torch.Generator(kernel.device).manual_seed(0)
    noise = torch.randn(g, n, width, generator=generator, dtype=kernel.dtype, device=kernel.device)
    unit = kernel / torch.linalg.vector_norm(kernel, dim=-2, keepdim=True)
    support = kernel != 0
    block = _orthonormal(noise * support, unit) * support
    v = u = w = kernel.new_empty(g, n, 0)
    for _ in range(max_passes):
        block_u, block_w = matrices.gram(block)
        v, u, w = torch.cat([v, block], -1), torch.cat([u, block_u], -1), torch.cat([w, block_w], -1)
        small = (u.mT @ u).double()
        squares, mixing = torch.linalg.eigh((small + small.mT) / 2)
        squares, mixing = squares.flip(-1).clamp(min=0), mixing.flip(-1).to(v.dtype)
        found = _triplets(v, u, w, squares, mixing, min(count, v.shape[-1]))
        floor = matrices.rounding
        values = torch.where(found.values > floor, found.values, 0)
        if (found.error <= tol * values[:, :1] + floor).all():
            return found._replace(values=values)
        block = _orthonormal(block_w, torch.cat([unit, v], -1)) * support
        if v.shape[-1] >= _LARGEST_BASIS * width:
            best = mixing[..., : 2 * width]
            v, u, w = v @ best, u @ best, w @ best
    worst = (found.error / values[:, :1]).max().item()
    raise RuntimeError(
        f"singular values reached a relative error of {worst:.1e} in {max_passes} passes, not tol={tol:.1e}: "
        "allow more passes or a larger tol"
    )


def _triplets(
    v: torch.Tensor, u: torch.Tensor, w: torch.Tensor, squares: torch.Tensor, mixing: torch.Tensor, count: int
) -> Triplets:
    """Return the best triplets in the span of v, where u = B v and w = BᵀB v."""
    values = squares[:, :count].sqrt()
    mixing = mixing[..., :count]
    right, left = v @ mixing, u @ mixing / values.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-2)
    residual = torch.linalg.vector_norm(w @ mixing - right * squares[:, None, :count], dim=-2)
    # An eigenvalue of BᵀB lies within the residual r of a Ritz value, and within r² / gap if all others are a gap away.
    distance = (squares[:, None, :] - squares[:, :count, None]).abs()
    distance.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    gap = distance.amin(-1)
    square_error = torch.where(residual < gap, residual**2 / gap, residual)
    error = (squares[:, :count] + square_error).sqrt() - values
    return Triplets(values.to(v.dtype), left.to(v.dtype), right, error)


def _orthonormal(x: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return orthonormal columns, orthogonal to the basis, that add to it what x adds; a column that adds nothing is 0."""
    eps = torch.finfo(x.dtype).eps * x.shape[-2] ** 0.5
    size = torch.linalg.vector_norm(x, dim=-2)
    x, r = torch.linalg.qr(x - basis @ (basis.mT @ x))
    x = x * (r.diagonal(dim1=-2, dim2=-1).abs() > 4 * eps * size).unsqueeze(-2)
    # Once more, against what rounding left. A combination of columns that now loses most of its length was rounding itself.
    x = x - basis @ (basis.mT @ x)
    lengths, turn = torch.linalg.eigh(x.mT @ x)
    kept: torch.Tensor = turn * torch.where(lengths > 0.25, lengths.clamp(min=0.25).rsqrt(), 0).unsqueeze(-2)
    return x @ kept
