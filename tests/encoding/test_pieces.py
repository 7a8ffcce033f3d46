"""Chunk-and-average: pieces are the text, whatever the tokenizer, and their mean is plain NumPy's."""

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tempscale.encoding.cutting import count_tokens, cut_texts
from tempscale.encoding.pieces import averaged, check_pieces, with_pieces
from tempscale.encoding.reading import Pieces

PROSE = (
    "Attention takes averages. The longer a text is, the more its average resembles that of any other text, "
    "which is what we call length-induced embedding collapse; see https://example.org/a/very/long/path?query=1#top. "
) * 6


def stub(model, pre_tokenizer, alphabet):
    """Return what the functions need of a SentenceTransformer: a trained tokenizer with special tokens."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    options = {"vocab_size": 400, "special_tokens": ["<s>", "</s>", "<unk>"], "show_progress": False}
    if isinstance(model, models.Unigram):
        trainer = trainers.UnigramTrainer(unk_token="<unk>", initial_alphabet=alphabet, **options)
    else:
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **options)
    tokenizer.train_from_iterator([PROSE], trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return SimpleNamespace(tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer), max_seq_length=64)


@pytest.fixture(scope="module", params=["wordpiece", "byte-level", "metaspace", "one word"])
def tokenizing(request):
    """Tokenizers of BERT, RoBERTa, XLM-R, and one to which the whole text is one word."""
    if request.param == "wordpiece":
        return SimpleNamespace(tokenizer=request.getfixturevalue("minilm").tokenizer, max_seq_length=256)
    if request.param == "byte-level":
        bytes_ = pre_tokenizers.ByteLevel.alphabet()
        return stub(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), bytes_)
    if request.param == "metaspace":
        return stub(models.Unigram(), pre_tokenizers.Metaspace(), list("abcdefghijklmnopqrstuvwxyz"))
    return stub(models.BPE(), pre_tokenizers.ByteLevel(use_regex=False), pre_tokenizers.ByteLevel.alphabet())


def cut(model, text, most, prompt="", overlap=0):
    (count,) = count_tokens(model, [text], prompt)
    return cut_texts(model, [text], [count], most, overlap, prompt)


WRITING = st.text(max_size=150) | st.lists(
    st.sampled_from([*PROSE.split(), "naïve", "\n\n", "日本語の文章", "🙂🙂", "x" * 90])
).map(" ".join)


@given(text=WRITING, most=st.integers(8, 40), prompt=st.sampled_from(["", "query: "]))
def test_pieces_are_the_text_and_short_enough(tokenizing, text, most, prompt):
    most += count_tokens(tokenizing, [""], prompt)[0]
    found = cut(tokenizing, text, most, prompt)
    assert found.numbers == [len(found.texts)]
    assert "".join("".join(found.texts).split()) == "".join(text.split())
    position = 0
    for piece in found.texts:
        position = text.index(piece, position) + len(piece)
    assert found.tokens == count_tokens(tokenizing, found.texts, prompt)
    # No character of these texts has eight tokens.
    assert max(found.tokens, default=0) <= most
    if count_tokens(tokenizing, [text], prompt)[0] <= most:
        assert found.texts == [text]


def test_words_stay_whole_and_pieces_are_about_equally_long(tokenizing):
    text = " ".join(PROSE.split()[:70]).replace("https://example.org/a/very/long/path?query=1#top.", "")
    found = cut(tokenizing, text, 40)
    if len(set(tokenizing.tokenizer(text).word_ids())) > 3:
        ends = [text.index(piece) + len(piece) for piece in found.texts[:-1]]
        assert not any(text[end - 1].isalpha() and text[end].isalpha() for end in ends)
    (whole,) = count_tokens(tokenizing, [text])
    assert len(found.texts) >= (whole - 2) / 38
    assert min(found.tokens) > 0.6 * max(found.tokens), "no short rest"


def test_a_long_word_is_cut_between_its_tokens(minilm):
    found = cut(minilm, "short " + "a1b2c3d4e5" * 30, 20)
    assert "".join(found.texts).replace("short ", "") == "a1b2c3d4e5" * 30
    assert max(found.tokens) <= 20
    assert len(found.texts) < 40


def test_of_several_texts_only_the_long_are_cut(minilm):
    texts = ["short", PROSE, "short", "another"]
    found = cut_texts(minilm, texts, count_tokens(minilm, texts), 50)
    assert found.numbers[0] == found.numbers[2] == found.numbers[3] == 1
    assert found.texts[0] == found.texts[-2] == "short"
    assert sum(found.numbers) == len(found.texts) == len(found.tokens)


def test_the_mean_is_that_of_numpy(minilm):
    found = cut(minilm, PROSE, 60)
    unit = minilm.encode(found.texts).astype(np.float64)
    expected = unit.sum(0) / np.linalg.norm(unit.sum(0))
    (mean,) = averaged(minilm.encode(found.texts), found.numbers)
    np.testing.assert_allclose(mean, expected, atol=1e-6)


def test_norms_do_not_weigh_the_pieces():
    embeddings = np.array([[3, 0], [0, 1], [5, 5], [0, 2], [0, 4]], dtype=np.float32)
    found = averaged(embeddings, [2, 1, 2])
    assert found.dtype == np.float32
    root = np.sqrt(0.5)
    np.testing.assert_allclose(found, [[2 * root, 2 * root], [5, 5], [0, 3]], rtol=1e-6)
    assert np.array_equal(averaged(embeddings, [1] * 5), embeddings)
    assert averaged(embeddings[:0], []).shape == (0, 2)


@given(text=WRITING, most=st.integers(16, 40), overlap=st.integers(1, 6))
def test_overlapping_pieces_repeat_the_end_of_the_one_before(tokenizing, text, most, overlap):
    most += 2 + overlap
    found = cut(tokenizing, text, most, overlap=overlap)
    assert max(found.tokens, default=0) <= most
    after = 0  # what the pieces have covered of the text
    for piece in found.texts if text.strip() else ():
        ends = [match.start() + len(piece) for match in re.finditer(f"(?={re.escape(piece)})", text)]
        going_on = [end for end in ends if end > after and not text[after : end - len(piece)].strip()]
        assert going_on, "nothing is left out, and each goes on"
        after = going_on[0]
    assert not text[after:].strip()


def test_overlap_in_words(minilm):
    text = " ".join(f"word{'s' * (k % 2)}" for k in range(40))
    found = cut(minilm, text, 14, overlap=4)
    words = [piece.split() for piece in found.texts]
    assert all(one[-4:] == other[:4] for one, other in itertools.pairwise(words))
    assert sum(map(len, words)) == 40 + 4 * (len(words) - 1)


def test_vectors_of_documents_with_their_pieces():
    embeddings = np.array([[3, 0], [0, 1], [5, 5]], dtype=np.float32)
    found = with_pieces(embeddings, [2, 1])
    root = np.sqrt(0.5)
    np.testing.assert_allclose(found, [[[2 * root, 2 * root], [3, 0], [0, 1]], [[5, 5], [5, 5], [5, 5]]], rtol=1e-6)
    assert with_pieces(embeddings[:0], []).shape == (0, 2, 2)


def test_pieces_that_cannot_be(minilm):
    check_pieces(minilm, Pieces(8))
    check_pieces(minilm, Pieces(256), ["query: "])
    with pytest.raises(ValueError, match=r"pieces\(257\) has more than the 256 tokens that the model reads: expected"):
        check_pieces(minilm, Pieces(257))
    with pytest.raises(
        ValueError, match=r"leaves no room for text: the prompt .* are 9 tokens already; expected at least 10"
    ):
        check_pieces(minilm, Pieces(9), ["one two three four five six seven "])
    with pytest.raises(ValueError, match=r"overlap are 9 tokens already; expected at least 10"):
        check_pieces(minilm, Pieces(9, 4), ["one two three "])
    slow = SimpleNamespace(tokenizer=SimpleNamespace(is_fast=False), max_seq_length=None)
    with pytest.raises(
        ValueError, match=r"SimpleNamespace does not say where in a text .* a model with a fast tokenizer"
    ):
        check_pieces(slow, Pieces(128))
