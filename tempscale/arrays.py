"""What the functions on signals and matrices accept and return: torch tensors or NumPy arrays, floating point."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

# A function returns the kind of array that it was given.
Array = TypeVar("Array", torch.Tensor, npt.NDArray[np.floating])


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
