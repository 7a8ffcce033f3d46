"""Temperatures that depend on layer or length: closed forms and messages."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from transformers import BertConfig, BertModel

from tempscale import LengthRule, LogLength, PerLayer, length_matched_temperature, patch, random_markov_rate
from tempscale.patching.layers import layers_label
from tempscale.patching.schedules import temperature_label

POSITIVE = st.floats(0.05, 20)
LENGTHS = st.lists(st.integers(1, 10**6), min_size=1, max_size=9)


@given(st.integers(2, 10**4), POSITIVE, st.floats(0, 3), LENGTHS)
def test_log_length(reference, temperature, exponent, lengths):
    found = LogLength(reference, temperature, exponent)(torch.tensor(lengths))
    for n, value in zip(lengths, found.tolist(), strict=True):
        # an exponent of 0 leaves the temperature, a text up to the reference too
        expected = temperature * (math.log(reference) / math.log(max(n, reference))) ** exponent
        assert value == pytest.approx(expected, rel=1e-5)


@given(st.integers(1, 10**4), st.floats(0.01, 10), st.floats(0.5, 2), LENGTHS)
def test_length_rule(reference, logit_std, temperature, lengths):
    found = LengthRule(reference, logit_std, temperature)(torch.tensor(lengths)).double()
    at_least = torch.tensor(lengths).clamp(min=reference)
    expected = length_matched_temperature(
        at_least.numpy(), sigma_s=logit_std, reference_length=reference, temperature=temperature
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    if logit_std / temperature < 3:  # what it is for: the law's rate stays
        rates = random_markov_rate(at_least.numpy(), logit_std / found.numpy())
        kept = random_markov_rate(float(reference), logit_std / temperature)
        np.testing.assert_allclose(rates, kept, rtol=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogLength(1), "reference_length must be at least 2 tokens, not 1"),
        (lambda: LogLength(math.nan), "reference_length must be at least 2 tokens, not nan"),
        (lambda: LogLength(128, -1), "finite positive number, not -1"),
        (lambda: LogLength(128, exponent=-1), "exponent must be finite and not negative, not -1"),
        (lambda: LengthRule(0, 0.5), "reference_length must be at least 1 token, not 0"),
        (lambda: LengthRule(64, 0), "must be from 0.001 to 26, not 0 / 1.0: the law is for weak logits"),
        (lambda: LengthRule(64, math.nan), "must be from 0.001 to 26, not nan"),
        (lambda: LengthRule(64, 1, 0.01), "must be from 0.001 to 26, not 1 / 0.01"),
        (lambda: LengthRule(64, 1, -1), "finite positive number, not -1"),
        (lambda: PerLayer([1.0, 0.0]), "finite positive number, not 0"),
        (lambda: PerLayer([1.0, lambda lengths: -lengths.float()]), "gives -1 for 1 tokens"),
        (lambda: PerLayer({0: "cold"}), "finite positive number, not 'cold'"),
    ],
)
def test_wrong_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def falling(lengths):
    return lengths**-0.1


@pytest.mark.parametrize(
    ("temperature", "label"),
    [
        (1, "1.0"),
        (0.9, "0.9"),
        (LogLength(64), "LogLength(reference_length=64, temperature=1.0, exponent=1.0)"),
        (LengthRule(64, 0.5), "LengthRule(reference_length=64, logit_std=0.5, temperature=1.0)"),
        (PerLayer({-1: 0.8, 2: 1}), "PerLayer({-1: 0.8, 2: 1.0})"),
        (PerLayer({2: 1, -1: 0.8}), "PerLayer({-1: 0.8, 2: 1.0})"),
        (PerLayer([1, falling]), "PerLayer([1.0, falling#a4b42e7c])"),
        (falling, "falling#a4b42e7c"),
    ],
)
def test_labels_are_those_of_stored_results(temperature, label):
    assert temperature_label(temperature) == label


@pytest.mark.parametrize(
    ("layers", "label"),
    [
        (None, "all"),
        ("all", "all"),
        ("last:3", "last:3"),
        ("0,1,-1", "-1,0,1"),
        ([2, 0, 2], "0,2"),
        (-1, "-1"),
        ([slice(1, None), "encoder.layer.0"], "1::,encoder.layer.0"),
    ],
)
def test_labels_of_layers_are_those_of_stored_results(layers, label):
    assert layers_label(layers) == label
    with pytest.raises(ValueError, match="cannot read layers 'top': expected all, last:3, first:3, or indices"):
        layers_label("top")


@pytest.fixture
def model():
    config = {
        "vocab_size": 97,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    return BertModel(BertConfig(**config)).eval()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (PerLayer({3: 0.5}), "PerLayer names layer 3, but the model has attention layers 0 to 2"),
        (PerLayer([0.5]), "PerLayer has 1 temperatures, but the model has 3 attention layers; name only some"),
        (lambda lengths: 0.5, "must return a tensor with one temperature for each length, not float"),
        (lambda lengths: torch.ones(3), r"must return .* not \(3,\) for 8192 lengths"),
        (lambda lengths: 1 - lengths / 100, "gives 0 for 100 tokens: temperatures must be from 0.001 to 1000"),
        (lambda lengths: 1 / (lengths.float().log()), "gives inf for 1 tokens"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(model, schedule, message):
    classes = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match=message):
        patch(model, schedule)
    assert [type(module) for module in model.modules()] == classes


def test_any_function_of_lengths_and_functions_per_layer(model):
    def halves(lengths):
        return torch.full(lengths.shape, 0.5)

    ids = torch.arange(5, 21)[None]
    with torch.no_grad():
        with patch(model, 0.5):
            expected = model(ids)[0]
        with patch(model, halves) as active:
            torch.testing.assert_close(model(ids)[0], expected)
            active.temperature = PerLayer([halves, 0.5, 0.5])
            torch.testing.assert_close(model(ids)[0], expected)


def test_layers_and_per_layer_meet(model):
    ids = torch.arange(5, 21)[None]
    with torch.no_grad(), patch(model, PerLayer([0.5, 0.6, 0.7]), layers=[1, 2]) as active:
        assert [site.layer for site in active.sites] == [1, 2]
        found = model(ids)[0]
        active.temperature = PerLayer({1: 0.6, -1: 0.7})
        assert torch.equal(model(ids)[0], found)


def test_exponent_1_keeps_the_weight_of_a_token_ahead_of_equal_ones():
    """A gap of ln(reference) is just enough: softmax gives the token 1/2, at every length; exponent 1/2 lets it fade."""
    lengths = [64, 512, 4096, 32768]
    weights = {}
    for exponent in (0.5, 1.0):
        taus = LogLength(64, exponent=exponent)(torch.tensor(lengths))
        weights[exponent] = []
        for n, tau in zip(lengths, taus, strict=True):
            logits = torch.zeros(n, dtype=torch.float64)
            logits[0] = math.log(64)
            weights[exponent].append((logits / tau).softmax(0)[0].item())
    # 1 / (1 + (n - 1) / n)
    assert weights[1.0] == pytest.approx([n / (2 * n - 1) for n in lengths], rel=1e-5)
    assert weights[0.5] == sorted(weights[0.5], reverse=True)
    assert weights[0.5][-1] < weights[0.5][0] / 20


def test_exponent_one_half_keeps_the_share_of_entropy_of_gaussian_logits():
    """H / ln n of softmax over N(0, s²) is 1 - u²/2, u = s / (τ √ln n); the mean of 50 rows is within 0.02 of it."""
    s, rng = 1.0, np.random.default_rng(3)
    for n in (64, 1024, 65536):
        for exponent, holds in ((0.5, True), (1.0, n == 64)):
            tau = LogLength(64, exponent=exponent)(torch.tensor([n])).item()
            log_p = log_softmax(s / tau * rng.normal(size=(50, n)), axis=-1)
            share = -(np.exp(log_p) * log_p).sum(-1).mean() / math.log(n)
            # the square of u grows like (ln n) ** (2 exponent - 1)
            u_square = s**2 / math.log(64) * (math.log(n) / math.log(64)) ** (2 * exponent - 1)
            assert share == pytest.approx(1 - u_square / 2, abs=0.02)
            assert (abs(share - (1 - s**2 / math.log(64) / 2)) < 0.02) == holds
