"""Postprocessing against NumPy's covariances and projections, on the corpus and on other texts."""

import builtins
import copy
import keyword
import random

import numpy as np
import pytest
import torch

import tempscale
from tempscale.embeddings import geometry
from tempscale.embeddings.postprocess import AllButTheTop, Centring, Whitening


def cloud(n=80, d=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


CORPUS, OTHER = cloud(), cloud(25, seed=0)[::-1] * 1.5 + 0.2

# Different in every direction: Python's own words, in random order.
WORDS = [*keyword.kwlist, *(name for name in dir(builtins) if name[0] != "_")]
FITTED = [" ".join(random.Random(number).sample(WORDS, 12)) for number in range(500)]
READ = ["A short text.", "Another one, of several sentences. " * 9, "12"]


def test_centring():
    np.testing.assert_allclose(Centring().fit(CORPUS).transform(OTHER), OTHER - CORPUS.mean(0))


def test_centring_keeps_the_order_of_documents_equally_near_the_mean():
    rng = np.random.default_rng(5)
    mean = np.array([0.5, 0, 0, 0])
    rest = rng.normal(size=(41, 3))
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    # unit vectors: all documents have the same product with the mean, or each its own
    for first, same_order in ((np.full(41, 0.6), True), (rng.uniform(-0.9, 0.9, size=41), False)):
        x = np.column_stack([first, np.sqrt(1 - first**2)[:, None] * rest])
        query, documents = x[0], x[1:]
        centring = Centring().fit(np.stack([mean - 1, mean + 1]))
        moved_query, moved = (centring.transform(one) for one in (query[None], documents))
        cosines = (moved @ moved_query[0]) / np.linalg.norm(moved, axis=1) / np.linalg.norm(moved_query)
        assert (np.argsort(cosines) == np.argsort(documents @ query)).all() == same_order


@pytest.mark.parametrize("dimensions", [None, 6, 3, 1])
def test_whitening_makes_the_covariance_the_identity(dimensions):
    white = Whitening(dimensions).fit_transform(CORPUS)
    kept = dimensions or 6
    assert white.shape == (80, kept)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(white.T).reshape(kept, kept), np.eye(kept), atol=1e-10)


def test_whitened_distances_of_other_texts_are_mahalanobis_distances():
    inverse = np.linalg.inv(np.cov(CORPUS.T))
    white = Whitening().fit(CORPUS).transform(OTHER)
    difference = OTHER[0] - OTHER[1]
    np.testing.assert_allclose(((white[0] - white[1]) ** 2).sum(), difference @ inverse @ difference)


def test_the_cut_keeps_the_largest_axes():
    values, vectors = np.linalg.eigh(np.cov(CORPUS.T))
    expected = ((OTHER - CORPUS.mean(0)) @ vectors[:, ::-1] / np.sqrt(values[::-1]))[:, :2]
    np.testing.assert_allclose(np.abs(Whitening(2).fit(CORPUS).transform(OTHER)), np.abs(expected))


@pytest.mark.parametrize("directions", [0, 1, 4])
def test_all_but_the_top_is_the_projection_off_the_largest_axes(directions):
    _, vectors = np.linalg.eigh(np.cov(CORPUS.T))
    top = vectors[:, ::-1][:, :directions]
    expected = (OTHER - CORPUS.mean(0)) @ (np.eye(6) - top @ top.T)
    np.testing.assert_allclose(AllButTheTop(directions).fit(CORPUS).transform(OTHER), expected, atol=1e-12)


@pytest.mark.parametrize(("d", "expected"), [(6, 1), (199, 1), (384, 3)])
def test_the_default_number_of_directions(d, expected):
    assert len(AllButTheTop().fit(np.random.default_rng(0).normal(size=(400, d))).components_) == expected


def test_whitening_undoes_a_common_direction():
    narrow = CORPUS + 20
    assert geometry.mean_cosine(narrow) > 0.9
    for step in (Centring(), Whitening(), AllButTheTop(1)):
        assert abs(geometry.mean_cosine(step.fit_transform(narrow))) < 0.05
    assert geometry.isoscore(Whitening().fit_transform(narrow)) > 0.8 > geometry.isoscore(narrow)


def test_fewer_texts_than_dimensions():
    few = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32)
    white = Whitening(4).fit_transform(few)
    np.testing.assert_allclose(np.cov(white.T), np.eye(4), atol=1e-6)
    message = "5 texts vary along 4 of 20 dimensions, but 20 are to be whitened: fit on more texts, or keep at most 4"
    with pytest.raises(ValueError, match=message):
        Whitening().fit(few)
    with pytest.raises(ValueError, match="5 texts vary along 4 of 20 dimensions, but 5 are to be taken away"):
        AllButTheTop(5).fit(few)


def test_unit_vectors_in_float32_and_a_dimension_without_variance():
    x = np.concatenate([CORPUS, np.full((80, 1), 3.0)], axis=1).astype(np.float32)
    with pytest.raises(ValueError, match="80 texts vary along 6 of 7 dimensions, but 7 are to be whitened"):
        Whitening().fit(x)


@pytest.mark.parametrize("step", [Centring(), Whitening(2), AllButTheTop(2)])
def test_torch_and_numpy_and_a_second_fit(step):
    np.testing.assert_array_equal(step.fit_transform(torch.tensor(CORPUS)), step.fit_transform(CORPUS))
    assert step.fit(OTHER) is step
    np.testing.assert_allclose(step.mean_, OTHER.mean(0))


@pytest.mark.parametrize("step", [Centring, Whitening, AllButTheTop])
def test_refusals(step):
    with pytest.raises(ValueError, match=f"{step.__name__} is not fitted: call fit with the embeddings of a corpus"):
        step().transform(CORPUS)
    with pytest.raises(ValueError, match="embeddings of width 3, but fitted on width 6: use one model"):
        step().fit(CORPUS).transform(np.ones((2, 3)))
    with pytest.raises(ValueError, match="1 texts to fit on: expected at least 2"):
        step().fit(CORPUS[:1])
    with pytest.raises(ValueError, match=r"embeddings of shape \(n, d\), not float64 \(6,\)"):
        step().fit(CORPUS[0])
    with pytest.raises(ValueError, match=r"embeddings of shape .*, not int64"):
        step().fit(CORPUS.astype(int))
    with pytest.raises(ValueError, match="row 1 is not finite: leave such rows out"):
        step().fit(np.array([[1.0], [np.nan], [2.0]]))


def test_a_failed_fit_leaves_the_earlier_one():
    step = Whitening().fit(CORPUS)
    before = step.transform(OTHER)
    with pytest.raises(ValueError, match="are to be whitened"):
        step.fit(CORPUS[:3])
    np.testing.assert_array_equal(step.transform(OTHER), before)


def test_refusals_of_the_options():
    with pytest.raises(ValueError, match="expected at least 1 dimension, not 0"):
        Whitening(0)
    with pytest.raises(ValueError, match="expected at least 0 directions, not -1"):
        AllButTheTop(-1)


# 381 is the most there is: embeddings of minilm vary along no more of their 384 dimensions, whatever the texts.
STEPS = [Centring(), Whitening(381), Whitening(20), AllButTheTop(3)]


@pytest.fixture(scope="module")
def fitted(minilm):
    return minilm.encode(FITTED)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("step", STEPS, ids=["centring", "whitening", "whitening to 20", "all-but-the-top"])
def test_a_model_with_the_module_gives_the_postprocessed_embeddings_also_when_loaded(
    minilm, fitted, step, normalised, tmp_path
):
    plain = minilm.encode(READ)
    step.fit(fitted)
    model = copy.deepcopy(minilm)
    model.append(step.module().to(model.device))
    expected = step.transform(plain)
    # float32 rounds embeddings of norm 1, and the map enlarges what is left by its largest factor.
    largest = np.linalg.norm(step.module().linear.weight.detach().numpy(), 2)
    tolerance = 64 * np.finfo(np.float32).eps * max(1, largest)
    if normalised:
        model.append(type(model[2])())
        norms = np.linalg.norm(expected, axis=1, keepdims=True)
        expected, tolerance = expected / norms, tolerance / norms.min()
    found = model.encode(READ)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=tolerance)
    model.save_pretrained(str(tmp_path / "model"))
    loaded = tempscale.load_model(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(loaded.encode(READ), found, atol=tolerance)
    assert np.abs(minilm.encode(READ) - plain).max() == 0, "the plain model is what it was"
    assert np.abs(found - plain[:, : found.shape[1]]).max() > 100 * tolerance


def test_a_module_can_be_used_without_gradients_and_says_its_width():
    module = Whitening(2).fit(CORPUS).module()
    assert not module.training
    width = getattr(module, "get_embedding_dimension", None) or module.get_sentence_embedding_dimension
    assert width() == 2
    with pytest.raises(ValueError, match="Centring is not fitted: call fit with the embeddings of a corpus first"):
        Centring().module()
