"""The encoder: the embeddings of sentence-transformers, in other batches, and none computed twice."""

import contextlib
import copy
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mteb", reason="mteb is not installed: pip install 'tempscale[eval]'")

from datasets import Dataset
from mteb.types import PromptType
from support.evaluation import WORDS, write_model

import tempscale
from tempscale import LogLength, PerLayer, patch
from tempscale.encoding.batching import LEAST, prefetch, token_batches, windows
from tempscale.encoding.cutting import features_of
from tempscale.encoding.encoder import Encoder, SizedLRU
from tempscale.encoding.reading import Pieces, Reading

TEXTS = [" ".join(WORDS[k % 70 : k % 70 + n]) for k, n in enumerate([3, 60, 1, 9, 30, 2, 9, 61, 14, 5] * 4)] + [""]
STS = SimpleNamespace(name="STS12", type="STS")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tempscale.load_model(write_model(tmp_path_factory.mktemp("model")), device="cpu")


def in_pieces(model, tokens, **options):
    encoder = Encoder(model)
    encoder.begin(Reading(pieces=Pieces(tokens, **options)))
    return encoder


def encode(encoder, texts, side=None, task=STS):
    inputs = SimpleNamespace(dataset=Dataset.from_dict({"text": texts}))
    prompt_type = PromptType(side) if side else None
    return encoder.encode(inputs, task_metadata=task, hf_split="test", hf_subset="default", prompt_type=prompt_type)


@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
@pytest.mark.parametrize("temperature", [1.0, 0.5, LogLength(4), PerLayer({0: 0.5})], ids=str)
def test_embeddings_are_those_of_sentence_transformers(model, temperature, batch_tokens):
    with patch(model, temperature):
        expected = model.encode(TEXTS)
    encoder = Encoder(model, batch_tokens=batch_tokens)
    encoder.begin(Reading(temperature))
    found = encode(encoder, TEXTS)
    encoder.close()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert encode(Encoder(model), []).shape[0] == 0


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize(
    ("side", "task", "prompt"),
    [
        ("query", STS, "ba: "),
        ("document", STS, "be: "),
        (None, STS, "bi: "),
        (None, SimpleNamespace(name="Banking77Classification", type="Classification"), "bo: "),
    ],
)
def test_prompts(tmp_path, side, task, prompt, include_prompt):
    model = tempscale.load_model(write_model(tmp_path), device="cpu")
    model.prompts = {"query": "ba: ", "document": "be: ", "STS12": "bi: ", "usual": "bo: "}
    model.default_prompt_name = "usual"
    model.set_pooling_include_prompt(include_prompt)
    keys = {key: model.prompts[key] for key in ("query", "document")} if side else model.prompts
    found = encode(Encoder(model, prompts=keys), TEXTS, side, task)
    np.testing.assert_allclose(found, model.encode(TEXTS, prompt=prompt), atol=2e-5)
    assert np.abs(found - model.encode(TEXTS, prompt="")).max() > 1e-2


def test_sides(model):
    with patch(model, 0.5):
        tempered = model.encode(TEXTS)
    plain = model.encode(TEXTS)
    for apply_to, expected in {"both": "qdn", "query": "q", "document": "d"}.items():
        encoder = Encoder(model)
        encoder.begin(Reading(0.5, side=apply_to))
        for side in ("query", "document", None):
            wanted = tempered if (side or "none")[0] in expected else plain
            np.testing.assert_allclose(encode(encoder, TEXTS, side), wanted, atol=2e-5)
        encoder.close()


def test_nothing_is_read_twice(model):
    encoder = Encoder(model)
    distinct = sum(len(text.split()) + 2 for text in set(TEXTS))
    for temperature, of_queries in ((1.0, distinct), (0.5, 0), (0.7, 0)):
        encoder.begin(Reading(temperature, side="document"))
        encode(encoder, TEXTS, "query")
        assert encoder.work.tokens_read == of_queries, "queries keep the temperature 1, whatever the documents have"
        encode(encoder, TEXTS, "document")
        encode(encoder, TEXTS, "document")
        assert encoder.work.tokens_read == of_queries + distinct, (
            "a duplicate, or another task's corpus, is not read again"
        )
        assert encoder.work.tokens_asked == 3 * sum(len(text.split()) + 2 for text in TEXTS)
    encoder.close()


def test_training_sets_drawn_from_the_same_texts_are_read_once(model):
    encoder, rng = Encoder(model), np.random.default_rng(0)
    distinct = sum(len(text.split()) + 2 for text in set(TEXTS))
    for temperature in (1.0, 0.5):
        encoder.begin(Reading(temperature))
        with patch(model, temperature) if temperature != 1 else contextlib.nullcontext():
            expected = dict(zip(TEXTS, model.encode(TEXTS), strict=True))
        draws = [TEXTS[:9], TEXTS[9:17], *([TEXTS[k] for k in rng.choice(len(TEXTS), 30)] for _ in range(20)), TEXTS]
        for texts in draws:
            found = encode(encoder, texts)
            np.testing.assert_allclose(found, np.stack([expected[text] for text in texts]), atol=2e-5)
        assert encoder.work.tokens_read == distinct
        assert encoder.work.tokens_asked == sum(len(text.split()) + 2 for texts in draws for text in texts)
    encoder.close()


def test_what_was_drawn_before_is_as_after_an_interruption(model):
    """A unit that is run alone gives the bits that it gives after another."""
    draws = [TEXTS[3:17], TEXTS[10:], TEXTS[:20], TEXTS[3:17]]
    alone, after = Encoder(model), Encoder(model)
    after.begin(Reading(1.0))
    for texts in reversed(draws):
        encode(after, texts)
    for encoder in (alone, after):
        encoder.begin(Reading(1.0))
    for texts in draws:
        assert np.array_equal(encode(alone, texts), encode(after, texts))


def test_texts_with_any_character_between_them_are_told_apart(model):
    encoder = Encoder(model)
    encoder.begin(Reading(1.0))
    for texts in (["ba\0be", "bi"], ["ba", "be\0bi"], ["ba\0be"], ["ba", "be"], ["babe", "bi"], ["ba", "bebi"]):
        for side in ("document", None):
            found = encode(encoder, texts, side)
            np.testing.assert_allclose(found, model.encode(texts), atol=2e-5)


def test_no_texts_in_pieces(model):
    assert encode(in_pieces(model, 16), []).shape[0] == 0


def test_embeddings_do_not_depend_on_what_was_encoded_before(model):
    fresh, used = Encoder(model), Encoder(model)
    for temperature in (0.5, 0.8, LogLength(4)):
        used.begin(Reading(temperature))
        for texts in (TEXTS[:7], TEXTS[3:], TEXTS[:7]):
            encode(used, texts)
    fresh.close()
    used.begin(Reading(0.5))
    found = encode(used, TEXTS)
    used.close()
    fresh.begin(Reading(0.5))
    expected = encode(fresh, TEXTS)
    fresh.close()
    assert np.array_equal(found, expected), "to the last bit"


def test_lengths_are_those_before_the_cut(model):
    encoder = Encoder(model)
    texts = ["ba " * n for n in (1, 62, 63, 500)]
    encoder.begin(Reading(1.0))
    encode(encoder, texts)
    assert encoder.work.requests[0].tokens == [3, 64, 65, 502]
    assert encoder.work.tokens_asked == 3 + 3 * 64


def test_chunks(model):
    """A word of this model is a token: 60 words in pieces of at most 14 are five of 12."""
    long = " ".join(WORDS[:60])
    expected = model.encode([" ".join(WORDS[start : start + 12]) for start in range(0, 60, 12)])
    norms = np.linalg.norm(expected, axis=1, keepdims=True)
    mean = (expected / norms).mean(0)
    encoder = in_pieces(model, 16)
    found = encode(encoder, ["ba be", long, " ".join(WORDS[:14])])
    np.testing.assert_allclose(found[1], mean / np.linalg.norm(mean) * norms.mean(), atol=2e-5)
    np.testing.assert_allclose(found[[0, 2]], model.encode(["ba be", " ".join(WORDS[:14])]), atol=2e-5)
    assert encoder.work.requests[0].tokens == [4, 62, 16], "before the cut"
    assert encoder.work.tokens_asked == encoder.work.tokens_read == 4 + 5 * 14 + 16


def test_chunks_of_a_text_longer_than_the_model_reads(model):
    texts = [" ".join(WORDS[:60] + words) for words in (WORDS * 5, [*WORDS * 4, *WORDS[::-1]])]
    whole, pieces = Encoder(model), in_pieces(model, 64)
    assert np.array_equal(*encode(whole, texts)), "they differ beyond what is read"
    assert np.abs(np.subtract(*encode(pieces, texts))).max() > 1e-3
    assert pieces.work.tokens_asked > 2 * 400


def test_chunks_of_texts_that_fit_change_no_bit(model):
    texts = [text for text in TEXTS if len(text.split()) <= 30]
    assert np.array_equal(encode(in_pieces(model, 32), texts), encode(Encoder(model), texts))


def test_equal_pieces_are_read_once(model):
    encoder = in_pieces(model, 12)
    texts = [" ".join(WORDS[:10] * 3), " ".join(WORDS[:10] * 2), " ".join(WORDS[:10])]
    found = encode(encoder, texts)
    assert (encoder.work.tokens_asked, encoder.work.tokens_read) == (6 * 12, 12)
    np.testing.assert_allclose(found[0], found[2], atol=2e-5)
    encode(encoder, texts)
    assert (encoder.work.tokens_asked, encoder.work.tokens_read) == (2 * 6 * 12, 12)


@pytest.mark.parametrize("temperature", [0.5, LogLength(4)], ids=str)
def test_chunks_and_temperature_and_prompt(model, temperature):
    """Every piece gets the prompt, and a schedule sees the length of the piece."""
    long = " ".join(WORDS[:40])
    encoder = Encoder(model, prompts={"STS12": "ba: "})
    reading = Reading(temperature, pieces=Pieces(14))
    encoder.prove([reading])
    encoder.begin(reading)
    (found,) = encode(encoder, [long])
    encoder.close()
    with patch(model, temperature):
        pieces = model.encode([" ".join(WORDS[start : start + 10]) for start in range(0, 40, 10)], prompt="ba: ")
    norms = np.linalg.norm(pieces, axis=1, keepdims=True)
    mean = (pieces / norms).mean(0)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean) * norms.mean(), atol=2e-5)


def test_a_document_keeps_its_pieces_and_is_scored_by_the_best(model):
    """Against plain loops: 24 words in pieces of 12 at most, and queries keep one vector."""
    documents, query = [" ".join(WORDS[:24]), "bo bu", " ".join(WORDS[30:66])], "ba bi"
    pieces = [
        [" ".join(document.split()[k : k + 12]) for k in range(0, len(document.split()), 12)] for document in documents
    ]
    (asked,) = model.encode([query])
    best = [max(model.similarity(asked, piece).item() for piece in model.encode(of_text)) for of_text in pieces]
    whole = model.similarity(asked, encode(in_pieces(model, 14), documents, "document"))[0].numpy()
    for pool, expected in (("max", best), ("mean+max", (np.array(best) + whole) / 2)):
        encoder = in_pieces(model, 14, pool=pool)
        queries, vectors = encode(encoder, [query], "query"), encode(encoder, documents, "document")
        assert (queries.shape[:-1], vectors.shape[:-1]) == ((1,), (3, 1 + 3))
        np.testing.assert_allclose(encoder.similarity(queries, vectors)[0], expected, atol=2e-6)


def test_pieces_are_read_once_for_every_pool(model):
    encoder, read = Encoder(model), []
    for pool in ("mean", "max", "mean+max"):
        encoder.begin(Reading(pieces=Pieces(14, pool=pool)))
        encode(encoder, TEXTS, "document")
        read.append(encoder.work.tokens_read)
    assert read[0] > 0
    assert read[1:] == [0, 0]


@pytest.mark.parametrize("side", ["left", "right"])
def test_late_pieces_are_the_means_of_tokens_read_together(model, side, monkeypatch):
    """An oracle of loops over the tokens that the transformer returns; the longest text is cut at the window."""
    monkeypatch.setattr(model.tokenizer, "padding_side", side)
    texts = ["ba", " ".join(WORDS[:29]), " ".join(WORDS[:70])]
    encoder = in_pieces(model, 16, late=True, overlap=4, pool="max")
    found = encode(encoder, texts, "document")
    assert found.shape[:2] == (3, 1 + 5), "64 tokens in steps of 12, and 4 more"
    with torch.no_grad():
        read = model[0](features_of(model, texts))
    for k, (row, length, number) in enumerate(zip(found, (3, 31, 64), (1, 3, 5), strict=True)):
        tokens = read["token_embeddings"][k][read["attention_mask"][k].bool()].numpy()
        assert len(tokens) == length
        step = max(1, length - 4) / number
        ends = [(int(k * step), int((k + 1) * step) + 4) for k in range(number)]
        expected = np.array([tokens[first:last].mean(0) for first, last in ends])
        np.testing.assert_allclose(row[1 : 1 + number], expected, atol=2e-5)
        unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(
            row[0] / np.linalg.norm(row[0]), unit.mean(0) / np.linalg.norm(unit.mean(0)), atol=2e-5
        )
    assert encoder.work.requests[0].tokens == [3, 31, 72]
    assert encoder.work.texts_cut == 1


def test_late_pieces_want_mean_pooling(model):
    first_token = copy.copy(model)
    first_token._modules = dict(model._modules)
    first_token._modules["1"] = type(model[1])(32, "cls")
    with pytest.raises(ValueError, match=r"pieces\(16, late=True\) pools token embeddings as mean pooling does"):
        Encoder(first_token).prove([Reading(pieces=Pieces(16, late=True))])


def test_layers_can_change_from_one_reading_to_the_next(model):
    encoder = Encoder(model)
    for layers in ("first:1", "all", [1], None):
        encoder.begin(Reading(0.5, layers=layers))
        found = encode(encoder, TEXTS)
        encoder.close()
        with patch(model, 0.5, layers=layers):
            np.testing.assert_allclose(found, model.encode(TEXTS), atol=2e-5)
        encoder.begin(Reading(0.5, layers=layers))
        encode(encoder, TEXTS)  # and the patch stays for the next one
    encoder.close()


def test_what_is_done_to_vectors_is_told_texts_and_side(model):
    told = []
    encoder = Encoder(model)
    encoder.begin(Reading(), lambda texts, embeddings, side: told.append((list(texts), side)) or -embeddings)
    found = encode(encoder, TEXTS[:3], "query")
    np.testing.assert_allclose(found, -model.encode(TEXTS[:3]), atol=2e-5)
    assert told == [(TEXTS[:3], "query")]
    encoder.begin(Reading())
    np.testing.assert_allclose(encode(encoder, TEXTS[:3], "query"), -found, atol=1e-7)


def test_chunks_that_leave_no_room_beside_a_prompt_are_refused_before_the_work(model):
    prompt = "ba be bi " * 3
    with pytest.raises(
        ValueError, match=r"pieces\(11\) leaves no room for text: the prompt 'ba be .* expected at least 12"
    ):
        Encoder(model, prompts={"query": prompt}).prove([Reading(pieces=Pieces(11))])
    Encoder(model, prompts={"query": prompt}).prove([Reading(pieces=Pieces(12))])


class Small:
    """A device that holds at most so many tokens."""

    def __init__(self, model, most, monkeypatch):
        self.most, self.forward, self.refused = most, model.forward, 0
        monkeypatch.setattr(model, "forward", self)

    def __call__(self, features, **kwargs):
        if features["input_ids"].numel() > self.most:
            self.refused += 1
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return self.forward(features, **kwargs)


def test_out_of_memory_takes_smaller_batches_once(model, monkeypatch):
    texts = [" ".join(WORDS[k : k + 30]) for k in range(40)]
    expected, expected_of_all = model.encode(texts), model.encode(TEXTS)
    small = Small(model, 500, monkeypatch)
    encoder = Encoder(model, batch_tokens=800)
    np.testing.assert_allclose(encode(encoder, texts), expected, atol=2e-5)
    assert small.refused == 1, "half of what did not fit is taken for all that follows"
    assert encoder.batch_tokens == 400
    encoder.begin(Reading(0.5))
    encode(encoder, texts)
    encoder.close()
    assert small.refused == 1, "and remembered"
    assert encoder.total_work.tokens_read == 2 * 40 * 32, "nothing was read twice"
    small.most = 64
    np.testing.assert_allclose(encode(Encoder(model, batch_tokens=1024), TEXTS), expected_of_all, atol=2e-5)
    small.most = 40
    with pytest.raises(
        MemoryError, match=r"out of memory on cpu with a single text: set a smaller max_seq_length than 64"
    ):
        encode(Encoder(model), TEXTS)


def test_other_errors_of_torch_are_not_taken_for_it(model, monkeypatch):
    def forward(features, **kwargs):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        encode(Encoder(model), TEXTS)


@given(st.lists(st.integers(1, 700), max_size=80), st.integers(1, 4096))
def test_batches(lengths, budget):
    batches = token_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) * longest <= budget or len(batch) == 1
        assert lengths[batch[0]] == longest
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts == sorted(firsts, reverse=True), "what does not fit fails at once"


def padded_tokens(lengths, batches):
    return sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)


@given(st.lists(st.integers(0, 5000), max_size=3000), st.integers(1, 100_000))
def test_windows(sizes, budget):
    found = windows(sizes, budget)
    assert sorted(index for window in found for index in window) == list(range(len(sizes)))
    for window in found:
        assert len(window) <= LEAST or len(window) * sizes[window[0]] <= budget
        assert sizes[window[0]] == max(sizes[index] for index in window)
    assert all(len(window) >= LEAST for window in found[:-1])


def test_padding_is_little_where_there_are_many_texts():
    lengths = np.random.default_rng(0).lognormal(5, 1, size=4000).clip(3, 512).astype(int).tolist()
    assert padded_tokens(lengths, token_batches(lengths, 65536)) < 1.05 * sum(lengths)
    assert padded_tokens(lengths, token_batches(lengths, 2048)) < 1.02 * sum(lengths)
    arbitrary = [list(range(start, start + 32)) for start in range(0, 4000, 32)]
    assert padded_tokens(lengths, arbitrary) > 1.5 * sum(lengths)


def test_prefetch_prepares_while_the_caller_works():
    began = [threading.Event() for _ in range(3)]

    def prepare(index):
        began[index].set()
        return index

    for index, _ in prefetch(prepare, range(3), depth=1):
        if index == 0:
            assert began[1].wait(5), "the next one is prepared before the caller asks for it"


def test_prefetch_passes_errors_on_and_can_be_left():
    def prepare(index):
        if index == 2:
            raise ValueError("text 2")
        return index

    with pytest.raises(ValueError, match="text 2"):
        list(prefetch(prepare, range(9)))
    for _ in prefetch(lambda index: index, range(10**9)):
        break


def test_sized_lru_forgets_what_was_not_used_for_longest():
    recent = SizedLRU(limit=5)
    made = []

    def value(key, size=2):
        return recent.get_or(key, lambda: made.append(key) or key, lambda _: size)

    value("a"), value("b"), value("a"), value("c")
    assert list(recent) == ["a", "c"]
    value("b")
    assert made == ["a", "b", "c", "b"]
    assert value("large", size=99) == "large", "kept alone, while it is used"
    assert list(recent) == ["large"]


def test_half_precision(model, tmp_path):
    half = tempscale.load_model(write_model(tmp_path), device="cpu", dtype="bfloat16")
    encoder = Encoder(half)
    encoder.begin(Reading(0.5))
    found = encode(encoder, TEXTS)
    encoder.close()
    assert found.dtype == np.float32
    with patch(half, 0.5):
        expected = half.encode(TEXTS, convert_to_tensor=True).float()
    assert torch.nn.functional.cosine_similarity(torch.from_numpy(found), expected).min() > 0.99
