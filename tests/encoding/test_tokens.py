"""Tokens are those that sentence-transformers makes, to the last number, with the lengths before the cut."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.evaluation import WORDS, write_model

import tempscale
from tempscale.encoding.features import count_tokens, features_of
from tempscale.encoding.tokens import Tokens

TEXTS = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(WORDS), max_size=90).map(" ".join),
        st.sampled_from(["", " ", "\\n word ", "UPPER Case", "[CLS] [SEP]", "naïve ﬁancé 東京", "a\u200bb", "🙂" * 50]),
    ),
    min_size=1,
    max_size=12,
)


def check(model, texts, prompt="", options=None):
    tokens = Tokens(model, texts, prompt, options)
    assert tokens.uncut.tolist() == count_tokens(model, texts, prompt)
    for indices in (range(len(texts)), [len(texts) // 2], range(len(texts))[::-2]):
        found, expected = tokens.batch(list(indices)), features_of(model, [texts[k] for k in indices], prompt, options)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert tokens.lengths[list(indices)].tolist() == expected["attention_mask"].sum(1).tolist()
    return tokens


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from(["", "query: ", " Prompt:"]), st.sampled_from([{}, {"task": "query"}]))
def test_tokens_are_those_of_the_model(texts, prompt, options):
    assert check(minilm(), texts, prompt, options).nbytes > 0


@functools.cache
def minilm():
    return tempscale.load_model("minilm", device="cpu", max_seq_length=24)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side(side, tmp_path):
    model = tempscale.load_model(write_model(tmp_path), device="cpu")
    model.tokenizer.padding_side = side
    tokens = check(model, [" ".join(WORDS[:n]) for n in (1, 60, 70, 9)])
    assert tokens._arrays, "the tokenizer was called directly"
    ids = tokens.batch([0, 1])["attention_mask"][0]
    assert ids.tolist() == sorted(ids.tolist(), reverse=side == "right")


def test_a_model_that_reads_in_its_own_way_keeps_it(tmp_path, monkeypatch):
    model = tempscale.load_model(write_model(tmp_path), device="cpu")
    texts = [" ".join(WORDS[k:n]) for k, n in ((0, 9), (3, 70), (5, 6), (1, 40))]
    usual = features_of

    def backwards(model, texts, *args):
        return usual(model, [" ".join(reversed(text.split())) for text in texts], *args)

    monkeypatch.setattr("tempscale.encoding.tokens.features_of", backwards)
    tokens = Tokens(model, texts)
    assert not tokens._arrays
    assert tokens.uncut.tolist() == [11, 69, 3, 41]
    assert tokens.lengths.tolist() == [11, 64, 3, 41]
    assert torch.equal(tokens.batch([1, 2])["input_ids"], backwards(model, [texts[1], texts[2]])["input_ids"])


def test_more_than_tokens_is_left_to_the_model(tmp_path, monkeypatch):
    model = tempscale.load_model(write_model(tmp_path), device="cpu")
    usual = features_of

    def with_positions(*args):
        features = usual(*args)
        return {**features, "position_ids": torch.arange(features["input_ids"].shape[1])[None]}

    monkeypatch.setattr("tempscale.encoding.tokens.features_of", with_positions)
    assert "position_ids" in Tokens(model, ["ba be", "bi"]).batch([0])


def test_a_tokenizer_of_python(tmp_path, monkeypatch):
    model = tempscale.load_model(write_model(tmp_path), device="cpu")
    monkeypatch.setattr(type(model.tokenizer), "is_fast", False)
    tokens = Tokens(model, [" ".join(WORDS), "ba"])
    assert tokens.lengths.tolist() == [64, 3]
    assert tokens.uncut.tolist() == [74, 3]
    assert isinstance(tokens.lengths, np.ndarray)
    assert tokens.batch([1])["input_ids"].shape == (1, 3)
