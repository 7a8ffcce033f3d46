"""Functions of numbers, NumPy arrays and tensors alike: in float64 inside, and the kind that was given outside."""

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Float64 = npt.NDArray[np.float64]


def numbers(**arguments: float | npt.NDArray[np.floating] | torch.Tensor) -> list[Float64]:
    """Return the arguments as finite float64 arrays, or raise ValueError with the name of one that is not.

    >>> numbers(n=3, sigma_s=torch.tensor([1, 2]))
    [array(3.), array([1., 2.])]
    """
    arrays = []
    for name, value in arguments.items():
        plain = value.detach().cpu().double().numpy() if isinstance(value, torch.Tensor) else value
        array = np.asarray(plain, dtype=np.float64)
        require(np.isfinite(array), array, f"{name} must be finite, not {{}}")
        arrays.append(array)
    return arrays


def require(holds: npt.NDArray[np.bool_] | np.bool_, values: Float64, message: str) -> None:
    """Raise ValueError with the first value for which the condition does not hold, at {} in the message.

    >>> require(np.array([True, False]), np.array([1.0, 0.5]), "n must be at least 1, not {}")
    Traceback (most recent call last):
    ValueError: n must be at least 1, not 0.5
    """
    if not np.all(holds):
        raise ValueError(message.format(f"{values[~np.asarray(holds)].flat[0]:g}"))


def like(result: Float64, *given: object) -> Any:
    """Return the result as the kind of the arguments.

    That is a tensor if one of them is one, with the floating-point dtype that tensors promote to, on the first one's
    device and without a gradient; else a float64 array if one of them is an array; else a float.

    >>> like(np.float64(0.5), 1, torch.ones(2))
    tensor(0.5000)
    """
    tensors = [value for value in given if isinstance(value, torch.Tensor)]
    if tensors:
        dtypes = [tensor.dtype for tensor in tensors if tensor.is_floating_point()] or [torch.get_default_dtype()]
        return torch.as_tensor(result, dtype=reduce(torch.promote_types, dtypes), device=tensors[0].device)
    return result if result.ndim or any(isinstance(value, np.ndarray) for value in given) else float(result)
