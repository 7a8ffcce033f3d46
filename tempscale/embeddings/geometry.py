"""Measures of how embeddings fill the sphere: how narrow, how many directions, whose neighbours, how far apart two sets.

Every function takes embeddings (n, d), one text a row, uses their directions only, and never pairs a text with itself.
Most depend on n: compare sets of one size. Intervals are made by `tempscale.collapse_report`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


def directions(embeddings: Any) -> Float:
    """Return the rows divided by their norms, as float64 NumPy.

    Raises:
        ValueError: not two axes, fewer than two rows, not floating point, or a row without direction.

    >>> directions(np.array([[3.0, 4.0], [0.0, 2.0]]))
    array([[0.6, 0.8],
           [0. , 1. ]])
    """
    given = embeddings.detach().cpu().double().numpy() if hasattr(embeddings, "detach") else np.asarray(embeddings)
    if not np.issubdtype(given.dtype, np.floating):
        raise ValueError(f"expected floating-point embeddings, not {given.dtype}: convert them first")
    if given.ndim != 2 or len(given) < 2:
        raise ValueError(f"expected embeddings of shape (n, d) with n >= 2, not {given.shape}")
    x = given.astype(np.float64)
    norm = np.linalg.norm(x, axis=1)
    wrong = ~(np.isfinite(norm) & (norm > 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"row {row} has norm {norm[row]:g} and so no direction: leave such rows out")
    unit: Float = x / norm[:, None]
    return unit


def mean_cosine(embeddings: Any) -> float:
    """Return the mean cosine of two different rows, in [-1/(n-1), 1]; its expectation does not depend on n.

    >>> round(mean_cosine(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])), 6)
    0.333333
    """
    x = directions(embeddings)
    n, total = len(x), x.sum(0)
    return float((total @ total - n) / (n * (n - 1)))


def centroid_distance(embeddings: Any) -> float:
    """Return the mean distance of a row to the mean of the others, in [0, 2]: 0 when all directions are equal.

    >>> centroid_distance(np.array([[1.0, 0.0], [5.0, 0.0]]))
    0.0
    """
    x = directions(embeddings)
    others = (x.sum(0) - x) / (len(x) - 1)
    return float(np.linalg.norm(x - others, axis=1).mean())


def effective_rank(embeddings: Any) -> float:
    """Return the effective rank exp(H), H the entropy of the singular values divided by their sum; 1 to min(n, d).

    The directions are not centred, so what all texts share counts as one large direction. RankMe: Garrido et al. 2023
    (with their epsilon 0), after Roy and Vetterli 2007.

    >>> round(effective_rank(np.eye(5)), 6), round(effective_rank(np.ones((5, 3))), 6)
    (5.0, 1.0)
    """
    singular = np.linalg.svd(directions(embeddings), compute_uv=False)
    share = singular / singular.sum()
    share = share[share > np.finfo(float).eps]
    return float(np.exp(-(share * np.log(share)).sum()))


def uniformity(embeddings: Any) -> float:
    """Return log of the mean of exp(-2 |u - v|²) over pairs of different rows, in [-8, 0]: lower is more uniform.

    Source: Wang and Isola 2020, with their t = 2.

    >>> round(uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])), 6)
    -8.0
    """
    x = directions(embeddings)
    kernel = np.exp(-4 * (1 - np.clip(x @ x.T, -1, 1)))
    n = len(x)
    return float(np.log((kernel.sum() - np.trace(kernel)) / (n * (n - 1))))


def isoscore(embeddings: Any) -> float:
    """Return the IsoScore: 1 if the directions vary alike along all d axes about their mean, 0 if along one only.

    Rudman et al. 2022 define it in seven steps. They come to (PR - 1) / (d - 1) with the participation ratio
    PR = (sum of λ)² / (sum of λ²) of the eigenvalues λ of the covariance. For n <= d it cannot reach 1.

    Raises:
        ValueError: also if d = 1, or if all directions are the same, which have no axis of variation.

    >>> round(isoscore(np.concatenate([np.eye(3), -np.eye(3)])), 6)
    1.0
    """
    x = directions(embeddings)
    n, d = x.shape
    if d < 2:
        raise ValueError("embeddings in one dimension have no isotropy: expected d >= 2")
    centred = x - x.mean(0)
    gram = centred @ centred.T if n <= d else centred.T @ centred
    variance, squares = np.trace(gram), (gram**2).sum()
    if variance <= 1e-20 * n:
        raise ValueError("all directions are the same: there is no axis along which they vary")
    return float((variance**2 / squares - 1) / (d - 1))


def neighbours(embeddings: Any, k: int = 10) -> npt.NDArray[np.int64]:
    """Return the indices of every row's k nearest other rows by cosine, in no order: (n, k).

    >>> neighbours(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.2]]), k=1).ravel()
    array([1, 0, 0])
    """
    x = directions(embeddings)
    if not 1 <= k < len(x):
        raise ValueError(f"k = {k} neighbours of {len(x)} texts: expected 1 to {len(x) - 1}")
    cosine = x @ x.T
    np.fill_diagonal(cosine, -np.inf)
    return np.argpartition(-cosine, k - 1, axis=1)[:, :k].astype(np.int64)


def k_occurrence(embeddings: Any, k: int = 10) -> npt.NDArray[np.int64]:
    """Return how many of the other rows have each row among their k nearest by cosine: (n,), with sum n k.

    A strongly skewed distribution means hubs, rows that are everybody's neighbours. Source: Radovanović et al. 2010.

    Raises:
        ValueError: also unless 1 <= k < n.

    >>> k_occurrence(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.2]]), k=1)
    array([2, 1, 0])
    """
    return np.bincount(neighbours(embeddings, k).ravel(), minlength=len(embeddings)).astype(np.int64)


def hubness(embeddings: Any, k: int = 10) -> float:
    """Return the skewness of the k-occurrences: 0 without hubs, large and positive with them.

    Raises:
        ValueError: also unless 1 <= k < n.

    >>> hubness(np.eye(4) + 0.1 * np.roll(np.eye(4), 1, axis=1), k=2) == 0
    True
    """
    counts = k_occurrence(embeddings, k).astype(float)
    deviation = counts - counts.mean()
    spread = (deviation**2).mean()
    return float((deviation**3).mean() / spread**1.5) if spread else 0.0


def energy_distance(first: Any, second: Any, *, paired: bool = False) -> float:
    """Return the energy distance of two populations of directions, 2 E|x-y| - E|x-x'| - E|y-y'|, without bias.

    It is 0 in expectation, and so sometimes negative, if both populations are the same, and positive otherwise.

    Args:
        first: (n, d) embeddings of one population.
        second: (m, d) embeddings of the other.
        paired: whether row i of both is the same text; then no |x_i - y_i| enters, and what is measured is as if the two
            came from different texts.

    Raises:
        ValueError: also for different widths, or pairs that do not pair up.

    Source: Székely and Rizzo 2013, as a U-statistic.

    >>> round(energy_distance(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[-1.0, 0.0], [-1.0, 0.0]])), 6)
    4.0
    """
    x, y = directions(first), directions(second)
    if x.shape[1] != y.shape[1] or (paired and len(x) != len(y)):
        raise ValueError(f"expected embeddings of one width{' and number' * paired}, not {x.shape} and {y.shape}")
    n, m = len(x), len(y)
    between = _distances(x, y)
    cross = (between.sum() - np.trace(between)) / (n * (n - 1)) if paired else between.mean()
    within, other = _distances(x, x).sum() / (n * (n - 1)), _distances(y, y).sum() / (m * (m - 1))
    return float(2 * cross - within - other)


def energy_test(first: Any, second: Any, *, paired: bool = False, permutations: int = 999, seed: int = 0) -> float:
    """Return the p-value of a permutation test that two sets of directions come from one population.

    The statistic is `energy_distance`. Without pairs, texts change places between the sets; with them, the two
    embeddings of a text do.

    >>> x = np.random.default_rng(0).normal(size=(30, 8))
    >>> energy_test(x, x + 1.0, permutations=199)
    0.005
    """
    x, y = directions(first), directions(second)
    energy_distance(x, y, paired=paired)  # refuses what does not go together
    rng = np.random.default_rng(seed)
    n, m = len(x), len(y)
    if paired:
        stays = rng.random((n, permutations)) < 0.5
        drawn = np.concatenate([stays, ~stays])
    else:
        drawn = rng.permuted(np.repeat(np.arange(n + m)[:, None] < n, permutations, axis=1), axis=0)
    # Who is in the first set: as it is, and after each permutation.
    member = np.concatenate([np.arange(n + m)[:, None] < n, drawn], axis=1).astype(np.float64)
    both = np.concatenate([x, y])
    distance = _distances(both, both)
    within = (member * (distance @ member)).sum(0)
    touched = distance.sum(1) @ member
    between, other = touched - within, distance.sum() - 2 * touched + within
    # A text and itself keep their distance, whichever of its two embeddings is in which set.
    cross = (between - np.trace(distance[:n, n:])) / (n * (n - 1)) if paired else between / (n * m)
    energy = 2 * cross - within / (n * (n - 1)) - other / (m * (m - 1))
    return float((energy >= energy[0] - 1e-12).mean())


def _distances(x: Float, y: Float) -> Float:
    """Return the distances of unit rows to unit rows: (n, m); exactly 0 between a row and itself."""
    distance: Float = np.sqrt(np.clip(2 - 2 * (x @ y.T), 0, None))
    if x is y:
        np.fill_diagonal(distance, 0)
    return distance
