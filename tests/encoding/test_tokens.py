"""Tokens are those that sentence-transformers makes, to the last number, with the lengths before the cut."""

import functools
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from support.evaluation import WORDS, write_model
from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

import tempscale
from tempscale.encoding.cutting import count_tokens, features_of
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


def byte_level(folder, add_prefix_space):
    """Return a model for whose tokenizer white space is something to read, as it is for RoBERTa's and ModernBERT's."""
    torch.manual_seed(0)
    bpe = tokenizers.ByteLevelBPETokenizer(add_prefix_space=add_prefix_space)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(
        [" ".join(WORDS)] * 3, vocab_size=400, min_frequency=1, special_tokens=special, show_progress=False
    )
    bpe.save_model(str(folder))
    tokenizer = RobertaTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), add_prefix_space=add_prefix_space, model_max_length=64
    )
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = RobertaConfig(
        vocab_size=len(tokenizer), pad_token_id=1, max_position_embeddings=80, initializer_range=0.4, **sizes
    )
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return SentenceTransformer(str(folder), device="cpu").eval()


SPACED = [
    *(" ".join(WORDS[k : k + 1 + k % 9]) for k in range(60)),
    *(f" {word}" for word in WORDS[:9]),
    *(f"{word} " for word in WORDS[:9]),
    *(f"\t{WORDS[k]} {WORDS[k + 3]} \n" for k in range(40)),
    *(" ".join(WORDS[:n]) + " " for n in (40, 60)),
    "   ",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prompt", ["", "ba: "])
@pytest.mark.parametrize("add_prefix_space", [True, False])
def test_white_space_is_read_as_the_model_reads_it(add_prefix_space, prompt, tmp_path):
    model = byte_level(tmp_path, add_prefix_space)
    texts = list(dict.fromkeys(SPACED))
    tokens = Tokens(model, texts, prompt)
    assert tokens._arrays, "the tokenizer was called directly"
    for index, text in enumerate(texts):
        expected = features_of(model, [text], prompt)
        assert torch.equal(tokens.batch([index])["input_ids"], expected["input_ids"])
        read = expected["input_ids"].shape[1]
        assert tokens.lengths[index] == read
        assert tokens.uncut[index] == read or read == model.max_seq_length < tokens.uncut[index]


def test_what_is_left_to_the_model_is_read_by_one_thread_at_a_time(tmp_path, monkeypatch):
    """The tokenizer keeps how it cuts and pads: a window that is read ahead must not change that of a batch."""
    model = tempscale.load_model(write_model(tmp_path), device="cpu")
    usual, inside, together = features_of, [0], [0]

    def slowly(model, texts, *args):
        inside[0] += 1
        together[0] = max(together[0], inside[0])
        features = usual(model, texts, *args)
        time.sleep(0.002)
        inside[0] -= 1
        return {**features, "position_ids": torch.zeros(1)}  # so that no batch is made here

    monkeypatch.setattr("tempscale.encoding.tokens.features_of", slowly)
    texts = [" ".join(WORDS[k % 60 : k % 60 + 5]) + f" {k}" for k in range(2000)]
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda part: Tokens(model, texts[part::4]).batch([0, 1]), range(4)))
    assert together[0] == 1
    assert all(len(features["input_ids"]) == 2 for features in made)


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
