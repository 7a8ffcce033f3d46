"""Token signals and attention matrices in the frequency domain.

A text of n tokens is a signal x of shape (n, d): d channels sampled at n positions. Its discrete Fourier transform runs
along the tokens. Frequency 0 (DC, "direct current") is the mean token; everything else (HC, "high-frequency
components") is what tells the tokens apart. Notation of Wang et al., ICLR 2022, and of arXiv 2410.24200.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

# A function returns the kind of array that it was given.
Array = TypeVar("Array", torch.Tensor, npt.NDArray[np.floating])

# How far a row may be from summing to 1: rounding of a softmax over thousands of tokens stays well inside.
_ROW_SUM_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def dc(x: Array) -> Array:
    """Return the zero-frequency part of a token signal: every token replaced by the mean token.

    Args:
        x: (..., n, d) floating point, tokens on axis -2.

    Returns:
        (..., n, d), same dtype. `dc(x) + hc(x) == x` up to rounding.

    Raises:
        ValueError: fewer than two axes, no token, or not floating point.

    Source: DC[x] = (1/n) 1 1ᵀ x, arXiv 2410.24200 (after Wang et al. 2022).

    >>> import numpy as np
    >>> dc(np.array([[1.0, 0.0], [3.0, 0.0]]))
    array([[2., 0.],
           [2., 0.]])
    """
    signal = floating(x)
    return like(signal.mean(-2, keepdim=True).expand(signal.shape).clone(), x)


def hc(x: Array) -> Array:
    """Return everything but the zero frequency of a token signal: each token's difference to the mean token.

    Args:
        x: (..., n, d) floating point, tokens on axis -2.

    Returns:
        (..., n, d), same dtype.

    Raises:
        ValueError: fewer than two axes, no token, or not floating point.

    Source: HC[x] = (I - (1/n) 1 1ᵀ) x, arXiv 2410.24200.

    >>> import numpy as np
    >>> hc(np.array([[1.0, 0.0], [3.0, 0.0]]))
    array([[-1.,  0.],
           [ 1.,  0.]])
    """
    signal = floating(x)
    return like(signal - signal.mean(-2, keepdim=True), x)


def frequency_matrix(attn: Array) -> Array:
    """Return an attention matrix in the frequency domain, F A Fᴴ with the unitary DFT matrix F.

    Entry [j, k] says how much of input frequency k the matrix sends to output frequency j. Because the rows of A sum to
    1, a constant signal stays constant: entry [0, 0] is 1 and the rest of column 0 is 0.

    Args:
        attn: (..., n, n) floating point; float16 and bfloat16 are computed in float32.

    Returns:
        (..., n, n) complex.

    Raises:
        ValueError: not square, or not floating point.

    >>> import numpy as np
    >>> frequency_matrix(np.array([[0.75, 0.25], [0.25, 0.75]])).real.round(6)
    array([[1. , 0. ],
           [0. , 0.5]])
    """
    matrix = at_least_float32(_square(floating(attn)))
    return like(torch.fft.ifft(torch.fft.fft(matrix, dim=-2, norm="ortho"), dim=-1, norm="ortho"), attn)


def filter_rate(attn: Array) -> Array:
    """Return the filter rate σₐ of attention matrices: the largest gain on the non-constant part of a signal.

    σₐ = ‖(I - J) A‖₂ with J = 11ᵀ/n: the largest singular value of A after the mean row is taken away. It bounds what
    one step leaves of the high frequencies, ‖hc(A x)‖ ≤ σₐ ‖hc(x)‖. Uniform attention has rate 0, the identity has rate
    1, and a matrix may well have a rate above 1.

    Args:
        attn: (..., n, n) floating point, rows summing to 1; float16 and bfloat16 are computed in float32.

    Returns:
        (...) filter rates, without unit; float32 or float64.

    Raises:
        ValueError: not square, not floating point, or rows that do not sum to 1.

    Source: Theorem 2 of arXiv 2410.24200.

    >>> filter_rate(torch.full((4, 4), 0.25))
    tensor(0.)
    >>> filter_rate(torch.eye(4))
    tensor(1.)
    """
    matrix = _square(floating(attn))
    rows = at_least_float32(matrix)
    deviation = (rows.sum(-1) - 1).abs().max().item()
    if not deviation <= _ROW_SUM_TOLERANCE[matrix.dtype]:
        raise ValueError(
            f"the rows of an attention matrix sum to 1, but here a row is off by {deviation:.3g}: "
            "apply softmax over the last axis first"
        )
    return like(torch.linalg.matrix_norm(rows - rows.mean(-2, keepdim=True), ord=2), attn)


def floating(x: Array) -> torch.Tensor:
    """Return x as a floating-point tensor with a token axis, sharing memory where it can."""
    tensor = torch.as_tensor(x)
    if not tensor.is_floating_point():
        raise ValueError(f"expected floating-point values, not {tensor.dtype}: convert them first")
    if tensor.ndim < 2 or tensor.shape[-2] == 0:
        raise ValueError(f"expected shape (..., n, d) with n >= 1 tokens on axis -2, not {tuple(tensor.shape)}")
    return tensor


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return x in float32 where its own precision is lower."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def like(result: torch.Tensor, given: Array) -> Array:
    """Return the result as NumPy where NumPy was given."""
    return result if isinstance(given, torch.Tensor) else result.numpy()


def _square(x: torch.Tensor) -> torch.Tensor:
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"expected attention of shape (..., n, n), not {tuple(x.shape)}")
    return x
