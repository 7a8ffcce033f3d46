"""Length collapse: how narrow is the region in which embeddings lie, and what does length do to it?"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tempscale.embeddings import geometry
from tempscale.embeddings.geometry import Float, energy_distance, energy_test

if TYPE_CHECKING:
    import pandas as pd

Array = TypeVar("Array", torch.Tensor, npt.NDArray[np.floating])


def pairwise_cosine(embeddings: Array) -> Array:
    """Return the cosine similarity of every pair of different rows.

    Its mean is the usual measure of a collapse: 0 for directions that are spread out, 1 when all point the same way.

    Args:
        embeddings: (n, d) floating-point embeddings, one text a row, n >= 2; need not be normalised.

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


def group_by_length(embeddings: Any, tokens: Any, edges: Sequence[int]) -> dict[str, npt.NDArray[np.floating]]:
    """Return the embeddings in groups by length, for `collapse_report`; groups without a text are left out.

    Args:
        embeddings: (n, d) embeddings, one text a row.
        tokens: (n,) lengths of the texts.
        edges: at least two increasing lengths; a group holds those from one edge to below the next.

    Raises:
        ValueError: edges that do not increase, or not as many lengths as embeddings.

    >>> {name: len(x) for name, x in group_by_length(np.ones((4, 2)), [3, 20, 31, 99], [16, 32, 64, 128]).items()}
    {'16-31': 2, '64-127': 1}
    """
    x, length = np.asarray(embeddings), np.asarray(tokens)
    if len(edges) < 2 or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"expected increasing edges, such as [16, 64, 256], not {list(edges)}")
    if length.shape != x.shape[:1]:
        raise ValueError(f"{len(x)} embeddings, but lengths of shape {length.shape}: give one for each")
    groups = {f"{low}-{high - 1}": x[(length >= low) & (length < high)] for low, high in pairwise(edges)}
    return {name: group for name, group in groups.items() if len(group)}


def collapse_report(
    groups: Mapping[Any, Any],
    *,
    paired: bool = False,
    k: int = 10,
    confidence: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> "pd.DataFrame":
    """Measure how embeddings of texts of different lengths fill the sphere, with intervals.

    All groups are brought to the size of the smallest, at random, because most measures depend on the number of texts.
    No text is ever compared with itself, at whatever length. Intervals come from random halves of the texts, drawn without
    replacement (the delete-half jackknife of Shao and Wu 1989): drawing with replacement would put copies of a text
    among its own neighbours. Those of the effective rank and the IsoScore come from leaving out one text after the other
    (the jackknife of Tukey 1958): where the texts are fewer than the dimensions, both measures are bounded by the number of
    texts, and vary too little from one half to the other.

    Args:
        groups: embeddings (n, d) by name, such as {"16 tokens": ...}; the first group is what the others are compared with.
        paired: whether row i of every group is the same text, at another length. Changes are then paired differences.
        k: number of neighbours, for hubness and occurrence.
        confidence: confidence of every interval by itself; those of the changes of one measure hold together (Bonferroni).
        resamples: number of random halves; the permutations are five times as many.
        seed: seed of all that is random.

    Returns:
        A row per length and measure, with columns length, texts (compared in each group), measure, value, low, high, change
        (against the first group), change_low, change_high, p_value. The measures are those of
        `tempscale.embeddings.geometry`, and
        energy_distance: from the first group, with the p_value of a permutation test that lengths do not matter;
        occurrence: how often a text is among the k nearest neighbours of others, in a collection in which all lengths are
        mixed and every text occurs once, divided by k. Above 1, the length takes neighbours from the others.

    Raises:
        ValueError: no group, fewer than 2 (k + 1) texts in one, sizes that do not pair up, or a confidence not in (0, 1).

    >>> x = np.random.default_rng(0).normal(size=(2, 50, 8)) + np.array([0.0, 1.0])[:, None, None]
    >>> report = collapse_report({"short": x[0], "long": x[1]}, resamples=20)
    >>> report[(report.measure == "mean_cosine") & (report.length == "long")].change.item() > 0.3
    True
    """
    import pandas as pd
    from scipy import stats

    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, not {confidence}")
    rng = np.random.default_rng(seed)
    sets = _equal_sizes(groups, paired, k, rng)
    n, half = len(sets[0]), len(sets[0]) // 2
    value = np.concatenate([_by_pairs(sets, paired, k), _spread(sets)], axis=1)
    halves = np.stack([_by_pairs(_halved(sets, half, paired, rng), paired, k) for _ in range(resamples)])
    without_one = np.stack([_spread([np.delete(x, i, axis=0) for x in sets]) for i in range(n)])

    def error(of_halves: Float, of_without_one: Float) -> Float:
        # The mean of m of n values varies by sqrt((n - m) / m) times what the mean of all n does.
        scaled = np.sqrt(half / (n - half)) * of_halves.std(0, ddof=1)
        together: Float = np.concatenate([scaled, np.sqrt(n - 1) * of_without_one.std(0)], axis=1)
        return together

    margin = error(halves, without_one) * stats.t.ppf((1 + confidence) / 2, n - 1)
    comparisons = max(len(sets) - 1, 1)
    change = value - value[0]
    change_margin = error(halves - halves[:, :1], without_one - without_one[:, :1])
    change_margin *= stats.t.ppf(1 - (1 - confidence) / 2 / comparisons, n - 1)
    for cells in (change, change_margin):
        cells[0] = np.nan  # the first group is not compared with itself,
        cells[:, _MEASURES.index("energy_distance")] = np.nan  # and the distance is a comparison already
    frame = pd.DataFrame(
        {
            "length": np.repeat(np.array(list(groups), dtype=object), len(_MEASURES)),
            "texts": n,
            "measure": np.tile(_MEASURES, len(sets)),
            "value": value.ravel(),
            "low": (value - margin).ravel(),
            "high": (value + margin).ravel(),
            "change": change.ravel(),
            "change_low": (change - change_margin).ravel(),
            "change_high": (change + change_margin).ravel(),
            "p_value": np.nan,
        }
    )
    distance = frame.measure == "energy_distance"
    p_values = [energy_test(sets[0], x, paired=paired, permutations=5 * resamples, seed=seed) for x in sets[1:]]
    frame.loc[distance, "p_value"] = [np.nan, *p_values]
    return frame[~(distance & frame.value.isna())].reset_index(drop=True)


_MEASURES = [
    "mean_cosine",
    "centroid_distance",
    "uniformity",
    "hubness",
    "occurrence",
    "energy_distance",
    "effective_rank",
    "isoscore",
]


def _by_pairs(sets: list[Float], paired: bool, k: int) -> Float:
    """Return the measures by pairs of texts, which are all others, of all groups: (groups, measures)."""
    first = sets[0]
    return np.array(
        [
            [
                geometry.mean_cosine(x),
                geometry.centroid_distance(x),
                geometry.uniformity(x),
                geometry.hubness(x, k),
                occurrence,
                np.nan if x is first else energy_distance(first, x, paired=paired),
            ]
            for x, occurrence in zip(sets, _occurrence(sets, paired, k), strict=True)
        ]
    )


def _spread(sets: list[Float]) -> Float:
    """Return effective rank and IsoScore of all groups: (groups, 2)."""
    return np.array([[geometry.effective_rank(x), geometry.isoscore(x)] for x in sets])


def _occurrence(sets: list[Float], paired: bool, k: int) -> Float:
    """Return the mean k-occurrence, divided by k, of every group in a collection of all lengths."""
    lengths, n = len(sets), len(sets[0])
    if not paired:
        pooled: Float = geometry.k_occurrence(np.concatenate(sets), k).reshape(lengths, n).mean(1) / k
        return pooled
    # Every text occurs once, and in the course of the rounds at every length.
    counts = np.zeros((lengths, n))
    for shift in range(lengths):
        length = (np.arange(n) + shift) % lengths
        counts[length, np.arange(n)] = geometry.k_occurrence(np.stack(sets)[length, np.arange(n)], k)
    occurrence: Float = counts.mean(1) / k
    return occurrence


def _halved(sets: list[Float], half: int, paired: bool, rng: np.random.Generator) -> list[Float]:
    if paired:
        rows = rng.permutation(len(sets[0]))[:half]
        return [x[rows] for x in sets]
    return [x[rng.permutation(len(x))[:half]] for x in sets]


def _equal_sizes(groups: Mapping[Any, Any], paired: bool, k: int, rng: np.random.Generator) -> list[Float]:
    if not groups:
        raise ValueError("no embeddings: expected at least one group of texts")
    sizes = {name: len(x) for name, x in groups.items()}
    smallest = min(sizes, key=sizes.__getitem__)
    if k < 1 or sizes[smallest] < 2 * (k + 1):
        raise ValueError(
            f"length {smallest} has {sizes[smallest]} texts: for k = {k} neighbours expected at least {2 * (k + 1)}"
        )
    if paired and len(set(sizes.values())) > 1:
        raise ValueError(f"paired groups hold the same texts, but their sizes are {list(sizes.values())}")
    n = sizes[smallest]
    sets = [geometry.directions(x) for x in groups.values()]
    return sets if paired else [x[rng.permutation(len(x))[:n]] for x in sets]
