"""The geometry of embeddings: how narrow is the region in which they lie?"""

import torch

from tempscale.spectrum import Array


def pairwise_cosine(embeddings: Array) -> Array:
    """Return the cosine similarity of every pair of different rows.

    Its mean is the usual measure of a collapse: 0 for directions that are spread out, 1 when all point the same way.

    Args:
        embeddings: (n, d) floating point, one text a row, n >= 2; need not be normalised.

    Returns:
        (n (n - 1) / 2,) cosines in [-1, 1] of the pairs (0, 1), (0, 2), ..., (n - 2, n - 1), in the order of
        `scipy.spatial.distance.pdist`; float16 and bfloat16 are computed and returned in float32.

    Raises:
        ValueError: not two axes, fewer than two rows, not floating point, or a row without direction.

    >>> pairwise_cosine(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]))
    tensor([1., 0., 0.])
    """
    x = torch.as_tensor(embeddings)
    if not x.is_floating_point():
        raise ValueError(f"expected floating-point embeddings, not {x.dtype}: convert them first")
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"expected embeddings of shape (n, d) with n >= 2, not {tuple(x.shape)}")
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    norm = x.norm(dim=-1)
    directed = norm.isfinite() & (norm > 0)
    if not directed.all():
        row = int((~directed).nonzero()[0])
        raise ValueError(f"row {row} has norm {norm[row].item():g} and so no direction: leave such rows out")
    unit = x / norm[:, None]
    first, second = torch.triu_indices(len(x), len(x), offset=1, device=x.device)
    cosine: torch.Tensor = (unit @ unit.T)[first, second].clamp(-1, 1)
    return cosine if isinstance(embeddings, torch.Tensor) else cosine.numpy()
