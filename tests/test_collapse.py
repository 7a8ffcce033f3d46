"""collapse against SciPy's pdist."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from tempscale import pairwise_cosine


def test_pairwise_cosine_is_one_minus_the_cosine_distance():
    x = np.random.default_rng(0).normal(size=(20, 7)) + 0.5
    np.testing.assert_allclose(pairwise_cosine(x), 1 - pdist(x, "cosine"), atol=1e-12)
    torch.testing.assert_close(pairwise_cosine(torch.tensor(x)), torch.tensor(1 - pdist(x, "cosine")))


def test_scale_of_a_row_does_not_matter():
    x = torch.randn(5, 3, dtype=torch.float64)
    scale = torch.tensor([[1e-100], [1.0], [2.0], [1e5], [1e150]], dtype=torch.float64)
    torch.testing.assert_close(pairwise_cosine(x * scale), pairwise_cosine(x))


def test_half_precision_is_computed_in_float32():
    x = torch.randn(6, 384).to(torch.bfloat16)
    cosine = pairwise_cosine(x)
    assert cosine.dtype == torch.float32
    torch.testing.assert_close(cosine, pairwise_cosine(x.float()))


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.ones(3), r"shape \(n, d\) with n >= 2, not \(3,\)"),
        (torch.ones(1, 3), r"shape \(n, d\) with n >= 2, not \(1, 3\)"),
        (torch.ones(2, 3).int(), "floating-point embeddings, not torch.int32"),
        (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "row 1 has norm 0 and so no direction: leave such rows out"),
        (torch.tensor([[1.0, torch.nan], [0.0, 1.0]]), "row 0 has norm nan"),
        (torch.tensor([[1.0, torch.inf], [0.0, 1.0]]), "row 0 has norm inf"),
    ],
)
def test_refusals(embeddings, message):
    with pytest.raises(ValueError, match=message):
        pairwise_cosine(embeddings)


def test_mean_cosine_is_the_energy_of_the_mean():
    x = np.random.default_rng(0).normal(size=(30, 5)) + 0.3
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    m = x.mean(0)
    np.testing.assert_allclose(pairwise_cosine(x).mean(), (30 * m @ m - 1) / 29)
    np.testing.assert_allclose((np.linalg.norm(x - m, axis=1) ** 2).mean(), 1 - m @ m)
