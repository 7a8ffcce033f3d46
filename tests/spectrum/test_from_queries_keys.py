"""filter_rate_qk and singular_patterns_qk against SciPy's dense SVD, closed forms and what a softmax cannot change."""

import copy
import math
from unittest import mock

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tempscale import filter_rate_qk, hc, singular_patterns_qk
from tempscale.spectrum import from_queries_keys, lanczos
from tempscale.spectrum.from_queries_keys import filter_rate_logits

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 60)


def attention(q, k, temperature=1.0, bias=0.0, mask=None, causal=False, scale=None):
    """Return A in float64 with plain NumPy, its rows and columns of padding left out."""
    q, k, bias = np.asarray(q, float), np.asarray(k, float), np.asarray(bias)
    if mask is not None:
        q, k, bias = q[mask], k[mask], bias[np.ix_(mask, mask)] if bias.ndim else bias
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    logits = (scale * q @ k.T + bias) / temperature
    if causal:
        logits = np.where(np.tri(len(q), dtype=bool), logits, -np.inf)
    return scipy.special.softmax(logits, axis=-1)


def svdvals(a):
    return scipy.linalg.svdvals(a - a.mean(0))


def draw(seed, n, strength, d=5):
    q, k = np.random.default_rng(seed).normal(size=(2, n, d))
    return strength * q, k


def iterate(q, k, **options):
    """Return the filter rate by block Lanczos, which takes over only for more than 256 tokens."""
    with mock.patch.object(lanczos, "_SMALL", 0):
        return filter_rate_qk(q, k, **options)


# Logits of structured attention: identity keys turn the queries into the logits themselves (scale = 1).
def one_hot(columns, n):
    return 60.0 * np.eye(n)[columns]


n = 150
rng = np.random.default_rng(0)
STRUCTURES = {
    "permutation": one_hot(rng.permutation(n), n),
    "uniform": np.zeros((n, n)),
    "one-hot, random": one_hot(rng.integers(n, size=n), n),
    "one-hot, two columns": one_hot(rng.integers(2, size=n), n),
    "one-hot, one column": one_hot(np.zeros(n, int), n),
    "blocks of unequal size": 60.0 * (np.sort(rng.integers(7, size=n))[:, None] == np.sort(rng.integers(7, size=n))),
    "soft blocks": 2.0 * (np.arange(n)[:, None] // 30 == np.arange(n) // 30),
    "sink column": 9.0 * (np.arange(n) == 0) + rng.normal(size=(n, n)),
    "sink column of half of the rows": 9.0 * np.outer(np.arange(n) % 2, np.arange(n) == 0),
    "neighbours": -0.5 * (np.arange(n)[:, None] - np.arange(n)) ** 2,
    "random, weak": 0.1 * rng.normal(size=(n, n)),
    "random, strong": 6.0 * rng.normal(size=(n, n)),
    "heavy tails": rng.standard_cauchy(size=(n, n)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_structured_attention_against_scipy(structure, dtype):
    logits = STRUCTURES[structure]
    expected = svdvals(scipy.special.softmax(logits, axis=-1))[0]
    queries, keys = logits.astype(dtype), np.eye(n, dtype=dtype)
    decomposed, iterated = singular_patterns_qk(queries, keys, 1, scale=1).values[0], iterate(queries, keys, scale=1)
    as_bias = filter_rate_qk(np.ones((n, 1), dtype), np.ones((n, 1), dtype), bias=queries)
    as_logits = filter_rate_logits(torch.from_numpy(queries)).numpy()
    for rate in (filter_rate_qk(queries, keys, scale=1), decomposed, iterated, as_bias, as_logits):
        assert rate.dtype == dtype
        # rounding: logits of 60 in float32 are known to 60 eps, and so are the weights
        np.testing.assert_allclose(rate, expected, rtol=1e-4, atol=1e-5 if dtype == np.float32 else 1e-12)


@given(seeds, sizes, st.sampled_from([0.01, 0.3, 1.0, 3.0, 30.0]), st.sampled_from([np.float32, np.float64]))
def test_random_queries_and_keys_against_scipy(seed, n, strength, dtype):
    q, k = draw(seed, n, strength)
    q, k = q.astype(dtype), k.astype(dtype)
    atol = 1e-5 if dtype == np.float32 else 1e-12
    expected = svdvals(attention(q, k))[0]
    np.testing.assert_allclose(filter_rate_qk(q, k), expected, rtol=1e-4, atol=atol)
    np.testing.assert_allclose(singular_patterns_qk(q, k, 1).values[0], expected, rtol=1e-4, atol=atol)
    np.testing.assert_allclose(iterate(q, k), expected, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("n", [2, 60, 256])
def test_rates_of_short_texts_have_the_error_of_rounding_whatever_the_tolerance(n, strength):
    """The square of the largest singular value costs none of its digits: the error is that of a weight, not its root."""
    for dtype, rtol, atol in ((np.float64, 1e-11, 1e-15), (np.float32, 1e-4, 5e-7)):
        q, k = (x.astype(dtype) for x in draw(2, n, strength))
        np.testing.assert_allclose(filter_rate_qk(q, k, tol=0.5), svdvals(attention(q, k))[0], rtol=rtol, atol=atol)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("causal", [False, True])
def test_long_texts_in_many_blocks_against_scipy(monkeypatch, strength, causal):
    """1100 tokens are too many for one block: one of 953 rows and one of 147, which stay, or are made again and again."""
    q, k = (torch.from_numpy(x) for x in draw(1, 1100, strength, d=32))
    expected = svdvals(attention(q, k, causal=causal))[0]
    for kept in (1100**2, 0):
        monkeypatch.setitem(from_queries_keys._KEPT, "cpu", kept)
        for dtype in (torch.float64, torch.float32):
            rate = filter_rate_qk(q.to(dtype), k.to(dtype), causal=causal)
            assert rate.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kept", [0, 40**2])
@pytest.mark.parametrize("rows", [1, 7, 39, 40])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_of_any_size_give_the_same(monkeypatch, seed, rows, kept):
    q, k = draw(seed, 40, 2.0)
    mask = np.random.default_rng(seed).random(40) < 0.7
    options = {"causal": bool(seed % 2), "mask": mask, "bias": draw(seed, 40, 1.0, d=40)[0]}
    whole = filter_rate_qk(q, k, **options), iterate(q, k, **options)
    monkeypatch.setitem(from_queries_keys._BLOCK, "cpu", 1)
    monkeypatch.setitem(from_queries_keys._KEPT, "cpu", kept)
    monkeypatch.setattr(from_queries_keys, "_ROWS", rows)
    parts = filter_rate_qk(q, k, **options), iterate(q, k, **options)
    np.testing.assert_allclose(parts, whole, rtol=1e-4)
    np.testing.assert_allclose(whole, svdvals(attention(q, k, **options))[0], rtol=1e-4, atol=1e-12)


@given(seeds, sizes, st.floats(-50, 50))
def test_a_shift_of_the_logits_changes_nothing(seed, n, shift):
    """Neither a constant for all logits, nor one for each row, nor a vector added to all keys."""
    q, k = draw(seed, n, 1.5)
    rate = filter_rate_qk(q, k)
    rows = np.random.default_rng(seed).normal(size=(n, 1)) * shift
    for shifted in (filter_rate_qk(q, k, bias=np.array([[shift]])), filter_rate_qk(q, k, bias=rows)):
        np.testing.assert_allclose(shifted, rate, rtol=2e-4, atol=1e-10)
    np.testing.assert_allclose(filter_rate_qk(q, k + shift), rate, rtol=2e-4, atol=1e-10)


@given(seeds, sizes)
def test_a_permutation_of_the_tokens_changes_nothing(seed, n):
    q, k = draw(seed, n, 1.5)
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_allclose(filter_rate_qk(q[order], k[order]), filter_rate_qk(q, k), rtol=2e-4, atol=1e-12)


@given(seeds, sizes)
def test_high_temperatures_lead_to_zero(seed, n):
    """At high temperatures A = J + (S - row means)(I - J) / (n tau) + O(1/tau^2): the rate falls like 1/tau, to 0."""
    q, k = draw(seed, n, 1.0)
    rates = filter_rate_qk(q, k, temperature=[1e3, 1e4, 1e30])
    first_order = scipy.linalg.svdvals(hc(hc(q @ k.T / np.sqrt(5)).T))[0] / n
    np.testing.assert_allclose(rates[:2] * [1e3, 1e4], first_order, rtol=0.02, atol=1e-9)
    assert rates[2] == 0


@given(seeds, sizes, st.integers(1, 4), st.integers(1, 4), st.floats(0.1, 5))
def test_theorem_2_for_any_signal_and_weights(seed, n, d, d_out, strength):
    """‖HC[A x W]‖ ≤ σₐ ‖HC[x]‖ ‖W‖₂, in the Frobenius norm; the constant signal stays: A1 = 1."""
    q, k = draw(seed, n, strength)
    x, w = np.random.default_rng(seed).normal(size=(n, d)), np.random.default_rng(seed).normal(size=(d, d_out))
    a = attention(q, k)
    np.testing.assert_allclose(a @ np.ones(n), 1)
    bound = filter_rate_qk(q, k) * np.linalg.norm(hc(x)) * np.linalg.norm(w, 2)
    assert np.linalg.norm(hc(a @ x @ w)) <= bound * (1 + 1e-4) + 1e-12


@given(seeds, sizes, st.floats(0.1, 10))
def test_the_rate_is_at_most_the_frobenius_norm_and_the_root_of_the_largest_column(seed, n, strength):
    q, k = draw(seed, n, strength)
    a = attention(q, k)
    rate = filter_rate_qk(q, k)
    assert rate <= np.linalg.norm(hc(a)) * (1 + 1e-9)
    assert rate <= np.sqrt(a.sum(0).max()) * (1 + 1e-9)


@given(seeds, st.floats(0.05, 20), st.booleans())
def test_scale_and_temperature_divide_all_logits(seed, temperature, with_bias):
    q, k = draw(seed, 30, 1.0)
    bias = draw(seed, 30, 1.0, d=30)[0] if with_bias else np.zeros((1, 1))
    rate = filter_rate_qk(q, k, scale=0.7, temperature=temperature, bias=bias)
    expected = svdvals(attention(q, k, temperature, bias, scale=0.7))[0]
    np.testing.assert_allclose(rate, expected, rtol=1e-4)


def test_many_temperatures_get_a_leading_axis():
    q, k = torch.randn(2, 2, 3, 40, 8)
    temperatures = [0.25, 1.0, 4.0]
    swept = filter_rate_qk(q, k, temperature=temperatures)
    assert swept.shape == (3, 2, 3)
    torch.testing.assert_close(filter_rate_qk(q, k, temperature=torch.tensor(temperatures)), swept)
    torch.testing.assert_close(filter_rate_qk(q, k, temperature=np.array(temperatures)), swept)
    for rates, temperature in zip(swept, temperatures, strict=True):
        torch.testing.assert_close(filter_rate_qk(q, k, temperature=temperature), rates)
    assert singular_patterns_qk(q, k, 4, temperature=temperatures).right.shape == (3, 2, 3, 40, 4)
    assert filter_rate_qk(q, k, temperature=torch.tensor(0.25)).shape == (2, 3)


def test_padding_is_no_part_of_the_text():
    """A padded text has the rate of the text alone, wherever the padding is and whatever stands in it, nan even."""
    q, k = torch.randn(2, 3, 2, 50, 8, dtype=torch.float64)
    mask = torch.zeros(3, 1, 50, dtype=torch.bool)
    mask[0, :, :20], mask[1, :, 45:], mask[2, :, ::3] = True, True, True  # right, left, scattered
    q[~mask.expand(3, 2, 50)], k[~mask.expand(3, 2, 50)] = torch.nan, torch.inf
    for causal in (False, True):
        rates = filter_rate_qk(q, k, mask=mask, causal=causal)
        found = singular_patterns_qk(q, k, 4, mask=mask, causal=causal)
        for text in range(3):
            for head in range(2):
                real = mask[text, 0]
                alone = filter_rate_qk(q[text, head, real], k[text, head, real], causal=causal)
                expected = svdvals(attention(q[text, head], k[text, head], mask=real.numpy(), causal=causal))
                assert rates[text, head].item() == pytest.approx(expected[0], rel=1e-4)
                assert rates[text, head].item() == pytest.approx(alone.item(), rel=1e-4)
                np.testing.assert_allclose(found.values[text, head], expected[:4], atol=1e-4 * expected[0])
                assert not found.left[text, head, ~real].any()
                assert not found.right[text, head, ~real].any()


def test_a_bias_of_any_shape_or_a_function_of_the_positions():
    q, k = torch.randn(2, 2, 3, 40, 8, dtype=torch.float64)
    slopes = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)[:, None, None]
    positions = torch.arange(40)
    stored = -slopes * (positions[:, None] - positions).abs()
    for bias in (stored, lambda i, j: -slopes * (i - j).abs(), stored.expand(2, 3, 40, 40)):
        for causal in (False, True):
            rates = filter_rate_qk(q, k, bias=bias, causal=causal)
            for text in range(2):
                for head in range(3):
                    expected = svdvals(attention(q[text, head], k[text, head], bias=stored[head], causal=causal))[0]
                    assert rates[text, head].item() == pytest.approx(expected, rel=1e-4)


def test_a_mask_in_the_bias_is_a_mask():
    q, k = torch.randn(2, 40, 8, dtype=torch.float64)
    hidden = torch.ones(40, 40, dtype=torch.bool).triu(1)
    expected = filter_rate_qk(q, k, causal=True, temperature=0.5)
    for value in (-torch.inf, torch.finfo(torch.float32).min):
        bias = torch.zeros(40, 40, dtype=torch.float64).masked_fill(hidden, value)
        torch.testing.assert_close(filter_rate_qk(q, k, bias=bias, temperature=0.5), expected, rtol=2e-4, atol=0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("hidden", [-torch.inf, torch.finfo(torch.float32).min])
def test_a_padded_query_that_sees_nothing_is_ignored(monkeypatch, hidden, causal):
    """Hidden in the bias, too, as models do it: rows and columns of padding, on the left and on the right."""
    q, k = torch.randn(2, 2, 40, 8)
    real = torch.ones(2, 40, dtype=torch.bool)
    real[0, :7], real[1, 30:] = False, False
    bias = torch.zeros(2, 40, 40).masked_fill(~(real[:, None] & real[:, :, None]), hidden)
    expected = [svdvals(attention(q[i], k[i], mask=real[i].numpy(), causal=causal)) for i in range(2)]
    for kept in (40**2, 0):
        monkeypatch.setitem(from_queries_keys._KEPT, "cpu", kept)
        rates = filter_rate_qk(q, k, bias=bias, mask=real, causal=causal)
        np.testing.assert_allclose(rates, [x[0] for x in expected], rtol=1e-4)
        for count in (3, 20):
            found = singular_patterns_qk(q, k, count, bias=bias, mask=real, causal=causal).values
            np.testing.assert_allclose(found, [x[:count] for x in expected], atol=1e-4)


def test_an_empty_batch_has_no_rates():
    q, k = torch.randn(2, 0, 3, 20, 4)
    for options in ({}, {"bias": torch.zeros(20, 20)}, {"bias": lambda i, j: i - j}, {"causal": True}):
        assert filter_rate_qk(q, k, **options).shape == (0, 3)
        assert filter_rate_qk(q, k, temperature=[1.0, 2.0], **options).shape == (2, 0, 3)
        for count in (2, 15):
            found = singular_patterns_qk(q, k, count, **options)
            assert [x.shape for x in found] == [(0, 3, count), (0, 3, 20, count), (0, 3, 20, count)]
    assert filter_rate_qk(torch.randn(0, 300, 4), torch.randn(0, 300, 4)).shape == (0,)


def test_autocast_changes_nothing():
    q, k = torch.randn(2, 2, 300, 8)
    rates, found = filter_rate_qk(q, k), singular_patterns_qk(q, k, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(filter_rate_qk(q, k), rates)
        for inside, outside in zip(singular_patterns_qk(q, k, 2), found, strict=True):
            assert torch.equal(inside, outside)


def test_a_bias_function_may_return_numpy():
    q, k = torch.randn(2, 2, 30, 8)
    stored = -0.2 * (torch.arange(30)[:, None] - torch.arange(30)).abs()
    rates = filter_rate_qk(q, k, bias=lambda i, j: -0.2 * np.abs(i.numpy() - j.numpy()))
    torch.testing.assert_close(rates, filter_rate_qk(q, k, bias=stored))


def test_a_mask_of_texts_and_a_mask_of_heads_each_with_its_axis():
    """As many heads as texts: without the axis the rows could be of either."""
    q, k = torch.randn(2, 2, 2, 30, 8)
    mask = torch.arange(30) < torch.tensor([[20], [30]])
    by_text, by_head = filter_rate_qk(q, k, mask=mask[:, None]), filter_rate_qk(q, k, mask=mask[None])
    for text in range(2):
        for head in range(2):
            for rates, real in ((by_text, mask[text]), (by_head, mask[head])):
                alone = filter_rate_qk(q[text, head, real], k[text, head, real])
                torch.testing.assert_close(rates[text, head], alone, rtol=1e-5, atol=0)


@pytest.mark.parametrize("structure", ["random, strong", "one-hot, two columns", "uniform"])
@pytest.mark.parametrize("count", [50, 149])
def test_a_good_part_of_all_patterns(structure, count):
    """Also where most values are 0, and with padding: the patterns stay orthonormal, without constant and padded part."""
    logits = STRUCTURES[structure]
    mask = np.arange(n) % 10 > 0  # 135 tokens
    for real in (np.ones(n, bool), mask):
        a = np.zeros((n, n))
        a[np.ix_(real, real)] = scipy.special.softmax(logits[np.ix_(real, real)], axis=-1)
        centred = (a - a.sum(0) / real.sum()) * real[:, None]
        values, left, right = singular_patterns_qk(logits, np.eye(n), count, scale=1, mask=real)
        np.testing.assert_allclose(values, scipy.linalg.svdvals(centred)[:count], atol=1e-12)
        np.testing.assert_allclose(centred @ right, left * values, atol=1e-12)
        there = min(count, real.sum() - 1)
        np.testing.assert_allclose(right.T @ right, np.diag(np.arange(count) < there), atol=1e-12)
        np.testing.assert_allclose(right.sum(0), 0, atol=1e-12)
        assert not right[~real].any()
        assert not left[~real].any()
        np.testing.assert_allclose(left.T @ left, np.diag(values > 0), atol=1e-10)


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("strength", [0.5, 2.0, 6.0])
def test_patterns_are_singular_triplets(count, strength):
    q, k = (torch.from_numpy(x) for x in draw(3, 200, strength, d=16))
    values, left, right = singular_patterns_qk(q, k, count, tol=1e-8)
    centred = hc(torch.from_numpy(attention(q, k)))
    np.testing.assert_allclose(values, svdvals(attention(q, k))[:count], rtol=1e-7)
    torch.testing.assert_close(centred @ right, left * values, atol=1e-9, rtol=0)
    torch.testing.assert_close(centred.mT @ left, right * values, atol=1e-4, rtol=0)  # the root of 1e-8
    for vectors in (left, right):
        torch.testing.assert_close(vectors.mT @ vectors, torch.eye(count, dtype=torch.float64), atol=1e-9, rtol=0)
        torch.testing.assert_close(vectors.sum(-2), torch.zeros(count, dtype=torch.float64), atol=1e-9, rtol=0)
    assert (right.gather(-2, right.abs().argmax(-2, keepdim=True)) > 0).all()


def test_heads_of_a_real_model(minilm):
    """Every head of all-MiniLM-L6-v2 on two padded texts, queries and keys read from its projections."""
    # a copy, since asking for hidden states leaves hooks behind
    transformer = copy.deepcopy(minilm[0].auto_model)
    texts = ["Return the singular value decomposition of a matrix. " * 12, "A short text, padded to the long one."]
    tokens = minilm.tokenizer(texts, padding=True, return_tensors="pt")
    real = tokens["attention_mask"].bool()
    with torch.inference_mode():
        states = transformer(**tokens, output_hidden_states=True).hidden_states
        for layer, state in zip(transformer.encoder.layer, states, strict=False):
            module = layer.attention.self
            q, k = (project(state).unflatten(-1, (12, -1)).transpose(-2, -3) for project in (module.query, module.key))
            rates = filter_rate_qk(q, k, mask=real[:, None])
            assert rates.shape == (2, 12)
            for text in range(2):
                for head in range(12):
                    expected = svdvals(attention(q[text, head], k[text, head], mask=real[text].numpy()))[0]
                    assert rates[text, head].item() == pytest.approx(expected, rel=1e-4)


def test_one_token_and_equal_keys_have_rate_zero():
    assert filter_rate_qk(np.ones((1, 4)), np.ones((1, 4))) == 0
    for n in (2, 33, 400):
        q, k = torch.randn(n, 8) * 30, torch.randn(1, 8).expand(n, 8) * 30
        assert filter_rate_qk(q, k).item() == 0
        assert filter_rate_qk(q, k, causal=True).item() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    q, k = torch.randn(2, 50, 8).to(dtype)
    rate = filter_rate_qk(q, k)
    assert rate.dtype == torch.float32
    torch.testing.assert_close(rate, filter_rate_qk(q.float(), k.float()))


def test_nothing_is_changed_and_the_global_generator_is_left_alone():
    q, k = torch.randn(2, 3, 50, 8, requires_grad=True)
    mask, bias = torch.ones(50, dtype=torch.bool), torch.zeros(50, 50)
    state, copies = torch.get_rng_state(), [x.detach().clone() for x in (q, k, mask, bias)]
    first = filter_rate_qk(q, k, mask=mask, bias=bias)
    assert not first.requires_grad
    assert torch.equal(first, filter_rate_qk(q, k, mask=mask, bias=bias))
    assert torch.equal(state, torch.get_rng_state())
    for before, after in zip(copies, (q, k, mask, bias), strict=True):
        assert torch.equal(before, after)


def ask(shape=(6, 4), **options):
    return filter_rate_qk(torch.randn(shape), torch.randn(shape), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: filter_rate_qk(torch.ones(3, 2).long(), torch.ones(3, 2)), "not torch.int64: convert them first"),
        (lambda: filter_rate_qk(torch.ones(8, 6, 4), torch.ones(2, 6, 4)), "repeat grouped key heads first"),
        (
            lambda: filter_rate_qk(torch.ones(6, 4), torch.ones(6, 4).double()),
            "of one dtype, not torch.float32 and torch.float64: convert one of them",
        ),
        (
            lambda: filter_rate_qk(torch.ones(6, 4), torch.ones(5, 4)),
            "6 queries and 5 keys, but a rate belongs to tokens",
        ),
        (lambda: filter_rate_qk(torch.ones(6, 4), torch.ones(6, 3)), "same number of channels, at least one"),
        (lambda: filter_rate_qk(torch.ones(6, 0), torch.ones(6, 0)), "same number of channels, at least one"),
        (
            lambda: ask((3, 3, 6, 4), mask=torch.ones(3, 6, dtype=torch.bool)),
            r"mask of shape \(3, 6\) may .* expected \(batch, 1, n\), .* mask\[:, None\], or \(1, heads, n\)",
        ),
        (lambda: ask((0, 4)), r"with n >= 1 tokens on axis -2, not \(0, 4\)"),
        (lambda: ask(scale=float("nan")), "scale=nan, but the logits need a finite factor"),
        (lambda: ask(temperature=0.0), "temperature=0.0, but a temperature is a finite positive number"),
        (lambda: ask(temperature=[1.0, float("inf")]), "a temperature is a finite positive number"),
        (lambda: ask(temperature=[]), "expected a number or a 1-D sequence of numbers"),
        (lambda: ask(temperature=torch.ones(2, 2)), r"shape \(2, 2\): expected a number or a 1-D sequence"),
        (lambda: ask(mask=torch.ones(6)), r"expected a boolean mask.*convert it with .bool\(\)"),
        (lambda: ask(mask=torch.ones(5, dtype=torch.bool)), r"mask of shape \(5,\) cannot be broadcast to \(6,\)"),
        (lambda: ask((2, 6, 4), mask=torch.eye(2, 6).bool() & (torch.arange(2) == 0)[:, None]), r"text \(1,\) is real"),
        (lambda: ask(bias=torch.ones(5, 6)), r"bias of shape \(5, 6\) cannot be broadcast to \(6, 6\)"),
        (lambda: ask(bias=lambda i, j: torch.ones(2, 2)), r"bias of shape \(2, 2\) cannot be broadcast to \(6, 6\)"),
        (lambda: ask(bias=torch.full((6, 6), -torch.inf)), "leave at least one key that bias does not mask"),
        (lambda: filter_rate_qk(torch.full((6, 4), torch.nan), torch.ones(6, 4)), "its logits are not finite"),
        (lambda: ask(tol=1e-9), r"tol=1e-09 .* 4.8e-07 <= tol < 1, which torch.float32 can resolve"),
        (lambda: ask(max_passes=0), "max_passes=0: expected .* at least one pass"),
        (
            lambda: singular_patterns_qk(torch.ones(3, 2), torch.ones(3, 2), 3),
            "count=3, but the 3 tokens .* have 1 to 2",
        ),
    ],
)
def test_refusals_name_the_value_and_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_tolerance_that_is_not_reached_is_an_error():
    q, k = (torch.from_numpy(x) for x in draw(0, 500, 1.0, d=64))
    with pytest.raises(RuntimeError, match=r"relative error of .* in 2 passes, not tol=1.0e-10: allow more passes"):
        filter_rate_qk(q, k, tol=1e-10, max_passes=2)


@given(seeds, sizes, st.integers(1, 4), st.integers(1, 4))
def test_theorem_2_is_attained_by_top_patterns_and_by_nothing_else(seed, n, d, d_out):
    q, k = draw(seed, n, 1.0)
    a = attention(q, k)
    rng = np.random.default_rng(seed)
    w, constant = rng.normal(size=(d, d_out)), rng.normal(size=(1, d))
    _, sigma, vt = scipy.linalg.svd(a - a.mean(0))
    left, stretch, _ = scipy.linalg.svd(w)
    stretch = np.append(stretch, 0)  # with one output, all directions but one are lost

    def gain(x):
        return np.linalg.norm(hc(a @ x @ w)) / np.linalg.norm(hc(x))

    bound = sigma[0] * stretch[0]
    assert gain(np.outer(vt[0], left[:, 0]) + constant) == pytest.approx(bound)
    # a little of another pattern, or of another direction: less by the second order
    if n > 2:
        expected = stretch[0] * np.sqrt((sigma[0] ** 2 + 0.01 * sigma[1] ** 2) / 1.01)
        assert gain(np.outer(vt[0] + 0.1 * vt[1], left[:, 0])) == pytest.approx(expected)
    if d > 1:
        expected = sigma[0] * np.sqrt((stretch[0] ** 2 + 0.01 * stretch[1] ** 2) / 1.01)
        assert gain(np.outer(vt[0], left[:, 0] + 0.1 * left[:, 1])) == pytest.approx(expected)


@given(seeds, st.integers(1, 8), st.sampled_from([3, 5]))
def test_theorem_2_is_attained_by_mixtures_of_patterns_that_tie(seed, size, d_out):
    """Three tokens that a third of the rows each look at: two equal singular values, and so have the weights."""
    rng = np.random.default_rng(seed)
    a = np.eye(3 * size)[np.arange(3 * size) % 3]
    _, sigma, vt = scipy.linalg.svd(hc(a))
    np.testing.assert_allclose(sigma, np.sqrt(size) * (np.arange(3 * size) < 2), atol=1e-9)
    left = scipy.linalg.qr(rng.normal(size=(3, 3)))[0]
    w = left * [2, 2, 0.5] @ scipy.linalg.qr(rng.normal(size=(d_out, d_out)))[0][:3]
    mixture = vt[:2].T @ rng.normal(size=(2, 2)) @ left[:, :2].T  # of rank two

    def gain(x):
        return np.linalg.norm(hc(a @ x @ w)) / np.linalg.norm(hc(x))

    bound = sigma[0] * np.linalg.norm(w, 2)
    assert gain(mixture + rng.normal(size=(1, 3))) == pytest.approx(bound)
    # a part outside, in the tokens or in the channels
    mixture *= 1 / np.linalg.norm(mixture)
    outside = np.outer(vt[0], left[:, 2])
    assert gain(mixture + 0.3 * outside) == pytest.approx(bound * np.sqrt((1 + 0.09 / 16) / 1.09))
    if size > 1:
        outside = scipy.linalg.null_space(np.vstack([vt[:2], np.ones(3 * size)]))[:, :1] * left[:, 0]
        assert gain(mixture + 0.3 * outside) == pytest.approx(bound / np.sqrt(1.09))


@given(seeds, st.integers(2, 30), st.integers(1, 4))
def test_both_bounds_for_several_heads(seed, n, count):
    rng = np.random.default_rng(seed)
    a = [attention(*draw(seed + head, n, 1.5)) for head in range(count)]
    x, value, out = rng.normal(size=(n, 6)), rng.normal(size=(count, 6, 3)), rng.normal(size=(count, 3, 6))
    y = sum(a[h] @ x @ value[h] @ out[h] for h in range(count))
    rates = np.array([svdvals(b)[0] for b in a])
    summed = sum(rates[h] * np.linalg.norm(value[h] @ out[h], 2) for h in range(count))
    squared = np.linalg.norm(np.concatenate(out), 2) * np.linalg.norm(rates * np.linalg.norm(value, 2, (1, 2)))
    assert np.linalg.norm(hc(y)) <= min(summed, squared) * np.linalg.norm(hc(x)) * (1 + 1e-12)


@given(seeds, st.integers(2, 30), st.integers(2, 4))
def test_each_bound_for_several_heads_is_attained_where_the_other_is_not(seed, n, count):
    """Heads that all do the same, at two sizes, reach the sum; heads side by side, the root of the sum of squares."""
    rng = np.random.default_rng(seed)
    a, value = attention(*draw(seed, n, 1.5)), rng.normal(size=(4, 3))
    _, sigma, vt = scipy.linalg.svd(hc(a))
    left, _, right = scipy.linalg.svd(value)
    x = np.outer(vt[0], left[:, 0]) + rng.normal(size=(1, 4))

    def gain_and_bounds(values, out):
        y = sum(a @ x @ one @ part for one, part in zip(values, out, strict=True))
        summed = sigma[0] * sum(np.linalg.norm(one @ part, 2) for one, part in zip(values, out, strict=True))
        squared = sigma[0] * np.linalg.norm(np.concatenate(out), 2) * np.linalg.norm(np.linalg.norm(values, 2, (1, 2)))
        return np.linalg.norm(hc(y)) / np.linalg.norm(hc(x)), summed, squared

    # every head writes its top direction to the same channel, and all but one do so softly
    softly = np.where(np.arange(count) > 0, 0.1, 1)[:, None, None] * value
    gain, summed, squared = gain_and_bounds(softly, np.repeat(np.outer(right[0], np.eye(3)[0])[None], count, axis=0))
    assert gain == pytest.approx(summed)
    assert squared / summed == pytest.approx(np.sqrt(count * (1 + 0.01 * (count - 1))) / (1 + 0.1 * (count - 1)))
    assert squared > 1.2 * summed
    # every head has channels of its own
    gain, summed, squared = gain_and_bounds(np.repeat(value[None], count, 0), np.eye(3 * count).reshape(count, 3, -1))
    assert gain == pytest.approx(squared)
    assert summed == pytest.approx(np.sqrt(count) * squared)


@given(seeds, st.integers(2, 20))
def test_rates_of_products(seed, n):
    a, b = attention(*draw(seed, n, 2.0)), attention(*draw(seed + 1, n, 2.0))
    assert svdvals(b @ a)[0] <= svdvals(b)[0] * svdvals(a)[0] * (1 + 1e-9) + 1e-14
    # attained by powers of a normal matrix, and far from it where one head writes what the next does not read
    circulant = scipy.linalg.circulant(a[0])
    assert svdvals(circulant @ circulant)[0] == pytest.approx(svdvals(circulant)[0] ** 2)
    sinks, reads = np.eye(4)[[0, 0, 1, 1]], np.eye(4)[[0, 1, 0, 1]]
    np.testing.assert_allclose([svdvals(reads)[0], svdvals(sinks)[0]], np.sqrt(2))
    assert svdvals(np.eye(4)[[0, 1, 0, 1]] @ sinks)[0] == pytest.approx(0, abs=1e-12)


@given(seeds, st.integers(2, 12), st.integers(1, 4))
def test_a_stack_of_steps_with_weights(seed, n, depth):
    rng = np.random.default_rng(seed)
    channels = rng.integers(1, 5, size=depth + 1)
    x = start = rng.normal(size=(n, channels[0]))
    bound = np.linalg.norm(hc(start))
    for layer in range(depth):
        a, w = attention(*draw([seed, layer], n, 1.5)), rng.normal(size=(channels[layer], channels[layer + 1]))
        x, bound = a @ x @ w, bound * svdvals(a)[0] * np.linalg.norm(w, 2)
    assert np.linalg.norm(hc(x)) <= bound * (1 + 1e-9) + 1e-14
    # attained by a top pattern of a symmetric A that stays one, and a direction that every W turns into its next best
    waves = np.cos(2 * np.pi * np.arange(n) / n)
    a = scipy.linalg.circulant((1 + waves) / n)
    assert svdvals(a)[0] == pytest.approx(0.5 if n > 2 else 1)
    turns = scipy.stats.ortho_group.rvs(3, size=depth, random_state=rng).reshape(depth, 3, 3)
    x, best = np.outer(waves, turns[0][:, 0]), 1.0
    for layer, turn in enumerate(turns):
        w = turn * [3, 1, 0.5] @ turns[(layer + 1) % depth].T  # from the first axis of one frame to that of the next
        x, best = a @ x @ w, best * svdvals(a)[0] * 3
    assert np.linalg.norm(hc(x)) == pytest.approx(best * np.linalg.norm(waves))


@given(seeds, st.integers(3, 30), st.integers(0, 12))
def test_convergence_of_power_iteration(seed, n, steps):
    b = hc(attention(*draw(seed, n, 1.5)))
    _, sigma, vt = scipy.linalg.svd(b)
    v = np.random.default_rng(seed + 1).normal(size=n)
    v /= np.linalg.norm(v)
    tangent = 1 / (vt[0] @ v) ** 2 - 1
    for _ in range(steps):
        v = b.T @ (b @ v)
        v /= np.linalg.norm(v)
    lower = sigma[0] / np.sqrt(1 + tangent * (sigma[1] / sigma[0]) ** (4 * steps))
    assert lower * (1 - 1e-9) <= np.linalg.norm(b @ v) <= sigma[0] * (1 + 1e-9)


@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.8])
def test_no_exponent_of_power_iteration_is_better(ratio):
    """Of two singular values 1 and r, from equal parts: the square is short of 1 by (1 - r²) r^4t / (1 + r^4t)."""
    b, v = np.diag([1.0, ratio]), np.ones(2)
    for t in range(8):
        v = v / np.linalg.norm(v)
        missing = (1 - ratio**2) * ratio ** (4 * t) / (1 + ratio ** (4 * t))
        assert np.linalg.norm(b @ v) ** 2 == pytest.approx(1 - missing, rel=1e-14)
        v = b.T @ (b @ v)


def test_no_tensor_is_as_large_as_the_matrix():
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    self.size = max(self.size, tensor.untyped_storage().nbytes())
            return result

    q, k = torch.randn(2, 5800, 16)  # from 5793 tokens on
    with Largest() as seen:
        filter_rate_qk(q, k, bias=lambda i, j: -0.01 * (i - j).abs(), causal=True)
    assert seen.size < 4 * 5800**2 / 10
    q, k = torch.randn(2, 3000, 16)
    with Largest() as seen:
        filter_rate_qk(q, k)
    assert seen.size == 4 * 3000**2  # shorter: once


def test_the_sizes_that_the_docstrings_and_the_book_name():
    assert math.isqrt(from_queries_keys._KEPT["cpu"]) == 5792
    assert (from_queries_keys._TOGETHER, from_queries_keys._TOGETHER_KEPT["cpu"]) == (32, 16)
    assert lanczos._SMALL == lanczos._LARGEST_BASIS == 256
    assert 4 * from_queries_keys._KEPT["cpu"] == 128 * 2**20  # bytes of float32
    assert from_queries_keys._BLOCK["cpu"] // from_queries_keys._ROWS == 16384
    assert from_queries_keys._ROWS == 64


@given(seeds, st.integers(2, 60))
def test_one_pass_gives_both_products(seed, n):
    q, k = draw(seed, n, 1.5)
    b = hc(attention(q, k))
    real = torch.ones(1, n, dtype=torch.bool)
    scaled, keys = torch.from_numpy(q / np.sqrt(5))[None], torch.from_numpy(k)[None]
    operator = from_queries_keys.CentredAttention(scaled, keys, None, real, causal=False)
    v = np.random.default_rng(seed).normal(size=(n, 3))
    for _ in range(2):  # the first pass finds the normalisers, the others use them
        u, w = operator.gram(torch.from_numpy(v)[None])
        np.testing.assert_allclose(u[0], b @ v, atol=1e-12)
        np.testing.assert_allclose(w[0], b.T @ b @ v, atol=1e-12)


@given(seeds, st.integers(2, 30), st.floats(1e-6, 1))
def test_what_the_residual_proves(seed, n, noise):
    b = hc(attention(*draw(seed, n, 1.5)))
    rng = np.random.default_rng(seed)
    _, sigma, vt = scipy.linalg.svd(b)
    x = vt[rng.integers(n)] + noise * rng.normal(size=n)
    x /= np.linalg.norm(x)
    square = np.linalg.norm(b @ x) ** 2
    residual = np.linalg.norm(b.T @ b @ x - square * x)
    distance = np.sort(np.abs(sigma**2 - square))
    assert distance[0] <= residual * (1 + 1e-9) + 1e-14
    assert np.abs(sigma - np.sqrt(square)).min() * np.sqrt(square) <= residual * (1 + 1e-9) + 1e-14
    assert distance[0] * distance[1] <= residual**2 * (1 + 1e-6) + 1e-14
    assert np.sqrt(square) <= sigma[0] * (1 + 1e-12)
    # attained by two patterns: then the residual is the geometric mean of the two distances
    x = vt[0] * np.cos(noise) + vt[1] * np.sin(noise)
    square = np.linalg.norm(b @ x) ** 2
    residual = np.linalg.norm(b.T @ b @ x - square * x)
    assert residual**2 == pytest.approx((sigma[0] ** 2 - square) * (square - sigma[1] ** 2), abs=1e-13)


def test_half_of_the_residual_proves_nothing():
    """Two hubs of eight tokens have the singular values 2 and 0; a mixture gives 1, which is 1 away from both."""
    b = hc(np.eye(8)[np.arange(8) % 2])
    _, sigma, vt = scipy.linalg.svd(b)
    x = vt[0] / 2 + np.sqrt(3) / 2 * vt[1]
    theta = np.linalg.norm(b @ x)
    residual = np.linalg.norm(b.T @ b @ x - theta**2 * x)
    np.testing.assert_allclose((theta, residual), (1, np.sqrt(3)))
    distance = np.abs(sigma - theta).min()
    assert distance == pytest.approx(1)
    assert residual / (2 * theta) < distance < residual / theta


@pytest.mark.parametrize("close", [0.01, 0.0001])
def test_a_gap_between_ritz_values_estimates_the_error_and_does_not_bound_it(close):
    """One Ritz value for two close squares: a small residual, a wide gap to the next, an error far above r² / gap."""
    squares = np.array([1.0, 1.0 - close, 0.0])
    basis = np.array([[1, 1, 0], [0, 0, np.sqrt(2)]]).T / np.sqrt(2)
    ritz, mixing = scipy.linalg.eigh(basis.T @ np.diag(squares) @ basis)
    x = basis @ mixing[:, -1]
    residual = np.linalg.norm(squares * x - ritz[-1] * x)
    estimate = residual**2 / (ritz[-1] - ritz[0])
    error = np.abs(squares - ritz[-1]).min()
    assert error == pytest.approx(residual)  # what the residual does prove, attained
    assert estimate < close * error


@given(seeds, st.integers(2, 40), st.floats(0, 8))
def test_column_mass_bounds_the_rate_from_both_sides(seed, n, strength):
    a = attention(*draw(seed, n, strength))
    lower, upper = column_bounds(a)
    square = svdvals(a)[0] ** 2
    assert lower <= square * (1 + 1e-9) + 1e-14
    assert square <= upper * (1 + 1e-9)
    # doubly stochastic: a mean of permutations
    rng = np.random.default_rng(seed)
    doubly = np.mean([np.eye(n)[rng.permutation(n)] for _ in range(3)], axis=0)
    assert column_bounds(doubly)[1] == pytest.approx(1)
    assert svdvals(doubly)[0] <= 1 + 1e-12


def column_bounds(a):
    """Bounds of the square of the rate: the largest disagreement about a column, and the largest mass of one."""
    n = len(a)
    return (a.var(0) * n * n / (n - 1)).max(), a.sum(0).max()


@given(seeds, st.integers(3, 40))
def test_both_bounds_by_columns_are_attained(seed, n):
    rng = np.random.default_rng(seed)
    weights = rng.random(n)
    others = (1 - weights[:, None]) / (n - 1)
    column = np.where(np.arange(n) == rng.integers(n), weights[:, None], others)  # all else is spread evenly
    assert svdvals(column)[0] ** 2 == pytest.approx(column_bounds(column)[0])
    permutation = np.eye(n)[rng.permutation(n)]
    assert svdvals(permutation)[0] ** 2 == pytest.approx(column_bounds(permutation)[1])


@pytest.mark.parametrize(("n", "w"), [(400, 20), (40, 5), (12, 6)])
def test_disagreement_about_one_token_is_not_necessary(n, w):
    """Half of the rows uniform on w tokens, half on w others: the rate is the root of the mass, however large w is."""
    groups = np.zeros((n, n))
    groups[::2, :w] = groups[1::2, w : 2 * w] = 1 / w
    lower, upper = column_bounds(groups)
    assert svdvals(groups)[0] ** 2 == pytest.approx(upper) == pytest.approx(n / (2 * w))
    assert lower == pytest.approx(n**2 / (n - 1) / (2 * w) ** 2)
    if (n, w) == (400, 20):
        assert svdvals(groups)[0] == pytest.approx(3.16, abs=0.005)
        assert np.sqrt(lower) == pytest.approx(0.50, abs=0.005)


def test_uniform_causal_attention_and_hardys_inequality():
    """Running means: (I - A)(I - A)ᵀ = diag(1 - 1/i), so the rate is at most 1 + sqrt(1 - 1/n); it tends to 2."""
    for n in (1, 2, 3, 16, 300):
        i = np.arange(1, n + 1)
        means = np.tri(n) / i[:, None]
        identity = np.eye(n) - means
        np.testing.assert_allclose(identity @ identity.T, np.diag(1 - 1 / i), atol=1e-13)
        assert svdvals(means)[0] <= 1 + np.sqrt(1 - 1 / n) + 1e-13
        # at a high temperature a decoder's head is this matrix
        if n > 1:
            q, k = draw(n, n, 1.0)
            assert filter_rate_qk(q, k, causal=True, temperature=1e12) == pytest.approx(svdvals(means)[0], rel=1e-4)
    # the signal of the proof: 4 minus its squared gain is about a constant divided by 1 + 1/2 + ... + 1/n
    harmonic, gain = [], []
    for n in (100, 1000, 10**4, 10**5, 10**6):
        i = np.arange(1, n + 1)
        x = i**-0.5
        y = np.cumsum(x) / i
        harmonic.append(x @ x)
        gain.append(n * y.var() / (x @ x))
        assert 4 - (8 * scipy.special.zeta(1.5) + 16) / harmonic[-1] <= gain[-1] < 4
    limits = np.diff(np.multiply(harmonic, gain)) / np.diff(harmonic)
    missing = 4 - limits
    assert 0 < missing[-1] < 0.2
    assert (missing[1:] < missing[:-1] / 2).all()


@pytest.mark.parametrize("seed", [35, 36, 37])
def test_keys_that_are_almost_alike_beside_padding(seed):
    """A matrix of products that rounding makes unsymmetric, on which LAPACK gave up."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (0.01 * torch.randn(256, 8, generator=generator) for _ in range(2))
    mask = torch.rand(256, generator=generator) < 0.5
    mask[0] = True
    attn = (q @ k.mT / 8**0.5).double()[mask][:, mask].softmax(-1)
    expected = torch.linalg.matrix_norm(attn - attn.mean(0), ord=2).item()
    assert filter_rate_qk(q, k, mask=mask).item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(("n", "size"), [(16, 1e-3), (33, 1e-3), (64, 1e-3), (100, 0.1), (256, 1.0)])
def test_patterns_of_short_texts_are_those_of_the_dense_matrix(n, size):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        q, k = (size * torch.randn(n, 8, generator=generator) for _ in range(2))
        attn = (q @ k.mT / 8**0.5).double().softmax(-1)
        expected = torch.linalg.svdvals(attn - attn.mean(0))[:4]
        values = singular_patterns_qk(q, k, 4).values.double()
        torch.testing.assert_close(values, expected, atol=2e-6, rtol=1e-4)
