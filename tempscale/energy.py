"""How differently two sets of embeddings are distributed: the energy distance, and a test of it."""

from typing import Any

import numpy as np

from tempscale.geometry import Float, directions


def energy_distance(first: Any, second: Any, *, paired: bool = False) -> float:
    """Return the energy distance of two populations of directions, 2 E|x-y| - E|x-x'| - E|y-y'|, without bias.

    It is 0 in expectation, and so sometimes negative, if both populations are the same, and positive otherwise.

    Args:
        first: (n, d).
        second: (m, d).
        paired: row i of both is the same text; then no |x_i - y_i| enters, and what is measured is as if the two came
            from different texts.

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
