"""Postprocessors per side, against plain NumPy: means, projections, whitening; halves; files."""

import hashlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import read_arrays

from tempscale import AllButTheTop, Centring, PerSide, Projection, Whitening
from tempscale.embeddings.sides import CrossFitted


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def sample(rng, n, d=6, shift=2.0):
    return unit(rng.normal(size=(n, d)) + shift * rng.normal(size=d))


@given(st.integers(0, 10**6))
def test_each_side_loses_its_own_mean(seed):
    rng = np.random.default_rng(seed)
    queries, documents, new = sample(rng, 20), sample(rng, 30), sample(rng, 5)
    for step, by_hand in (
        (Centring(), lambda x, fit: x - fit.mean(0)),
        (Projection(), lambda x, fit: x - np.outer(x @ unit(fit.mean(0)[None])[0], unit(fit.mean(0)[None])[0])),
    ):
        sides = PerSide(step).fit(queries=queries, documents=documents)
        for side, fit in (("query", queries), ("document", documents)):
            np.testing.assert_allclose(sides.transform(new, side), unit(by_hand(new, fit)), atol=1e-9)
            # and where vectors have other lengths, they are not changed
            np.testing.assert_allclose(sides.transform(3 * new, side), by_hand(3 * new, fit), atol=1e-9)


def test_whitening_has_one_map_for_both_sides_and_two_means():
    rng = np.random.default_rng(0)
    queries, documents = sample(rng, 400, shift=0.5), sample(rng, 100, shift=0.5)
    sides = PerSide(Whitening()).fit(queries=queries, documents=documents)
    maps = [fitted.components_ for fitted in sides.fitted.values()]
    assert np.array_equal(*maps)
    covariance = (np.cov(queries.T, bias=True) + np.cov(documents.T, bias=True)) / 2
    white = maps[0] @ covariance @ maps[0].T
    np.testing.assert_allclose(white, np.eye(6), atol=1e-9)
    assert abs(sides.fitted["query"].transform(queries).mean(0)).max() < 1e-9
    assert abs(sides.fitted["document"].transform(documents).mean(0)).max() < 1e-9


@pytest.mark.parametrize("step", [Centring(), Projection(), AllButTheTop(2), Whitening(3)], ids=str)
def test_the_other_half_teaches(step):
    rng = np.random.default_rng(1)
    texts = {"query": [f"q{n}" for n in range(60)], "document": [f"d{n}" for n in range(80)]}
    x = {side: sample(rng, len(of_side)) for side, of_side in texts.items()}
    halves = {side: np.array([hashlib.sha256(t.encode()).digest()[0] % 2 for t in of]) for side, of in texts.items()}
    assert 0.3 < halves["query"].mean() < 0.7
    crossed = CrossFitted(step, {side: (texts[side], x[side]) for side in x})
    scores = np.zeros((60, 80))
    kept = Whitening(3, symmetric=True) if isinstance(step, Whitening) else step
    for one in (0, 1):
        for other in (0, 1):
            of_query = PerSide(kept).fit(**{name: x[side][halves[side] != one] for name, side in NAMES.items()})
            of_document = PerSide(kept).fit(**{name: x[side][halves[side] != other] for name, side in NAMES.items()})
            rows, columns = halves["query"] == one, halves["document"] == other
            block = (
                of_query.transform(x["query"][rows], "query")
                @ of_document.transform(x["document"][columns], "document").T
            )
            scores[np.ix_(rows, columns)] = block
    found = [crossed.transform(texts[side], x[side], side) for side in ("query", "document")]
    np.testing.assert_allclose(found[0] @ found[1].T, scores, atol=1e-9)
    several = crossed.transform(texts["document"], np.stack([x["document"]] * 3, axis=1), "document")
    np.testing.assert_allclose(several, np.stack([found[1]] * 3, axis=1), atol=1e-12)


NAMES = {"queries": "query", "documents": "document"}


def test_whitening_of_halves_can_be_compared():
    """Whitened with the axes of two samples of one law, the same vectors agree; along principal axes they would not."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4000, 5)) @ np.diag([1, 1.05, 1.1, 2, 3])
    texts = [f"text {n}" for n in range(len(x))]
    crossed = CrossFitted(Whitening(), {None: (texts, x)})
    maps = [half.fitted[None].components_ for half in crossed._halves]
    np.testing.assert_allclose(*maps, atol=0.1)
    assert abs(np.diag(maps[0]) - [1, 1 / 1.05, 1 / 1.1, 1 / 2, 1 / 3]).max() < 0.05


def test_saved_maps_are_numpys(tmp_path):
    rng = np.random.default_rng(3)
    queries, documents = sample(rng, 20), sample(rng, 30)
    sides = PerSide(Projection()).fit(queries=queries, documents=documents)
    sides.save(tmp_path / "remedy.npz")
    arrays = read_arrays(tmp_path / "remedy.npz")
    assert sorted(arrays) == ["document_bias", "document_weight", "query_bias", "query_weight"]
    mapped = unit(queries @ arrays["query_weight"].T + arrays["query_bias"])
    np.testing.assert_allclose(mapped, sides.transform(queries, "query"), atol=1e-12)


def test_a_vector_along_the_mean_becomes_zero_and_not_nan():
    sides = PerSide(Projection()).fit(texts=np.eye(2)[[0, 0, 0]])
    assert sides.transform(np.array([[1.0, 0.0], [0.0, 1.0]]), None).tolist() == [[0, 0], [0, 1]]


def test_messages(tmp_path):
    x = np.eye(3)
    with pytest.raises(ValueError, match="no embeddings to fit on: give those of queries, of documents, or of both"):
        PerSide(Centring()).fit()
    with pytest.raises(ValueError, match="queries: 1 texts to fit on: expected at least 2"):
        PerSide(Centring()).fit(queries=x[:1], documents=x)
    with pytest.raises(ValueError, match="fitted on nothing, not on queries: fit on embeddings of that side, too"):
        PerSide(Centring()).transform(x, "query")
    with pytest.raises(ValueError, match="fitted on queries and documents, not on texts"):
        PerSide(Centring()).fit(queries=x, documents=x).transform(x, None)
    with pytest.raises(ValueError, match="fitted on queries, not on 'left'"):
        PerSide(Centring()).fit(queries=x).transform(x, "left")
    with pytest.raises(ValueError, match="documents: the mean of 2 embeddings is 0 and has no direction"):
        PerSide(Projection()).fit(documents=[[1.0, 0.0], [-1.0, 0.0]])
    with pytest.raises(ValueError, match="project is fitted on one half to be judged on the other: queries: 0 texts"):
        CrossFitted(Projection(), {"query": (["a", "b"], x[:2])})
    with pytest.raises(ValueError, match="not fitted, so there is nothing to save"):
        PerSide(Centring()).save(tmp_path / "none.npz")


def test_a_name_is_no_postprocessor():
    with pytest.raises(TypeError, match=re.escape("no postprocessor: 'project'; give one, such as Projection()")):
        PerSide("project")
