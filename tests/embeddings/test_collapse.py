"""collapse against SciPy's pdist and the measures that it collects; its intervals against repeated samples."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from tempscale import pairwise_cosine
from tempscale.embeddings import geometry
from tempscale.embeddings.collapse import collapse_report, group_by_length
from tempscale.embeddings.geometry import energy_distance

COLUMNS = ["length", "texts", "measure", "value", "low", "high", "change", "change_low", "change_high", "p_value"]


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


def narrowing(n, seed, d=12):
    """Draw the same texts at two lengths: the longer ones share more, and are less spread out."""
    rng = np.random.default_rng(seed)
    short = rng.normal(size=(n, d)) * np.linspace(2, 0.5, d) + 0.4
    long = 0.7 * short + 0.5 * rng.normal(size=(n, d)) + 0.5
    return {16: short, 256: long}


def row(report, measure, length):
    return report[(report.measure == measure) & (report.length == length)].iloc[0]


def test_report_holds_the_measures_of_each_group():
    groups = narrowing(60, 0)
    report = collapse_report(groups, paired=True, k=5, resamples=20)
    assert report.columns.tolist() == COLUMNS
    assert set(report.length) == {16, 256}
    assert (report.texts == 60).all()
    for name in ("mean_cosine", "centroid_distance", "effective_rank", "uniformity", "isoscore"):
        for length, x in groups.items():
            np.testing.assert_allclose(row(report, name, length).value, getattr(geometry, name)(x))
        change = row(report, name, 256)
        np.testing.assert_allclose(
            change.change, getattr(geometry, name)(groups[256]) - getattr(geometry, name)(groups[16])
        )
        assert change.change_low < change.change < change.change_high
        assert np.isnan(row(report, name, 16).change)
    np.testing.assert_allclose(row(report, "hubness", 16).value, geometry.hubness(groups[16], 5))
    distance = row(report, "energy_distance", 256)
    np.testing.assert_allclose(distance.value, energy_distance(*groups.values(), paired=True))
    assert distance.p_value == 1 / 101
    assert report.p_value.notna().sum() == 1
    assert report.equals(collapse_report(groups, paired=True, k=5, resamples=20))


def test_groups_are_brought_to_one_size():
    groups = {"a": narrowing(50, 0)[16], "b": narrowing(90, 1)[256]}
    report = collapse_report(groups, resamples=10)
    assert (report.texts == 50).all()
    np.testing.assert_allclose(row(report, "mean_cosine", "a").value, pairwise_cosine(groups["a"]).mean())
    assert row(report, "mean_cosine", "b").value != pytest.approx(pairwise_cosine(groups["b"]).mean(), abs=1e-9)
    single = collapse_report({"a": groups["a"]}, resamples=10)
    assert "energy_distance" not in set(single.measure)
    assert single.change.isna().all()


def test_occurrence_counts_neighbours_in_a_collection_of_all_lengths():
    groups = narrowing(30, 2)
    report = collapse_report(groups, k=4, resamples=10)
    x = np.concatenate(list(groups.values()))
    # Without pairs the texts are put in a random order, which does not change who is near whom.
    counts = geometry.k_occurrence(x, 4)
    np.testing.assert_allclose(row(report, "occurrence", 16).value, counts[:30].mean() / 4)
    np.testing.assert_allclose(row(report, "occurrence", 256).value, counts[30:].mean() / 4)

    paired = collapse_report(groups, k=4, resamples=10, paired=True)
    even = np.arange(30) % 2 == 0
    first = geometry.k_occurrence(np.where(even[:, None], groups[16], groups[256]), 4)
    second = geometry.k_occurrence(np.where(even[:, None], groups[256], groups[16]), 4)
    np.testing.assert_allclose(row(paired, "occurrence", 16).value, (first[even].sum() + second[~even].sum()) / 30 / 4)


def test_a_text_is_never_compared_with_itself():
    """With the same embeddings at both lengths, every comparison is between different texts: nothing changes."""
    x = narrowing(40, 0)[16]
    report = collapse_report({16: x, 256: x}, paired=True, resamples=20)
    changes = report[report.length == 256].set_index("measure")
    assert (changes.change.dropna().drop("occurrence") == 0).all()
    np.testing.assert_allclose(changes.value["energy_distance"], 0, atol=1e-12)
    assert changes.p_value["energy_distance"] == 1.0


@pytest.mark.parametrize(("n", "d"), [(50, 12), (20, 60)], ids=["many texts", "fewer texts than dimensions"])
def test_intervals_cover(n, d):
    """Of 150 samples, the share whose interval holds the mean over all of them; sampling error is 0.018."""
    reports = [collapse_report(narrowing(n, seed, d), paired=True, k=4, resamples=40) for seed in range(150)]
    for of, low, high in (("value", "low", "high"), ("change", "change_low", "change_high")):
        table = np.stack([report[[of, low, high]].to_numpy() for report in reports])
        table = table[:, ~np.isnan(table[0, :, 0])]
        truth = table[:, :, 0].mean(0)
        covered = ((table[:, :, 1] <= truth) & (truth <= table[:, :, 2])).mean(0)
        assert (covered > 0.89).all(), covered
        assert covered.mean() < 0.995, "intervals that always cover say nothing"


@pytest.mark.parametrize(
    ("groups", "options", "message"),
    [
        ({}, {}, "no embeddings: expected at least one group of texts"),
        ({64: np.ones((21, 3))}, {}, "length 64 has 21 texts: for k = 10 neighbours expected at least 22"),
        ({64: np.ones((0, 3))}, {}, "length 64 has 0 texts"),
        ({1: np.ones((30, 3)), 2: np.ones((31, 3))}, {"paired": True}, r"same texts, but their sizes are \[30, 31\]"),
        ({1: np.ones((30, 3))}, {"confidence": 95}, "expected a confidence between 0 and 1, not 95"),
    ],
)
def test_refusals_of_the_report(groups, options, message):
    with pytest.raises(ValueError, match=message):
        collapse_report(groups, **options)


def test_group_by_length():
    x = np.arange(12.0).reshape(6, 2)
    groups = group_by_length(x, [16, 15, 31, 32, 63, 64], [16, 32, 64])
    assert list(groups) == ["16-31", "32-63"]
    np.testing.assert_array_equal(groups["16-31"], x[[0, 2]])
    np.testing.assert_array_equal(groups["32-63"], x[[3, 4]])
    with pytest.raises(ValueError, match=r"expected increasing edges, such as \[16, 64, 256\], not \[16\]"):
        group_by_length(x, [1] * 6, [16])
    with pytest.raises(ValueError, match=r"6 embeddings, but lengths of shape \(5,\): give one for each"):
        group_by_length(x, [1] * 5, [16, 32])
