"""Control texts, and embeddings of ids against those of the model itself."""

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

import tempscale
from tempscale.embeddings.controls import (
    content_ids,
    embed_ids,
    has_position_ids,
    pad_to,
    random_weights,
    repeat_to,
    shuffle,
    special_ids,
)
from tempscale.embeddings.geometry import directions

TEXTS = ["Short.", "A longer text, of several words and two clauses.", "Attention is a weighted mean. " * 5]


class Wrapped(SentenceTransformer):
    """A transformer without tokenizer files, pooled by the mean."""

    def __init__(self, transformer, tokenizer):
        torch.nn.Module.__init__(self)
        first = torch.nn.Module()
        first.auto_model, self._tokenizer = transformer, tokenizer
        self.add_module("0", first)

    @property
    def tokenizer(self):
        return self._tokenizer

    @property
    def device(self):
        return torch.device("cpu")


def tiny(cls, minilm, **options):
    """Return a small model with random weights behind MiniLM's tokenizer."""
    torch.manual_seed(0)
    config = cls.config_class(
        vocab_size=30522, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, **options
    )
    return Wrapped(cls(config).eval(), minilm.tokenizer)


def test_ids_are_embedded_as_the_model_embeds_their_text(minilm):
    ids = content_ids(minilm, TEXTS)
    assert special_ids(minilm) == ([101], [102])
    np.testing.assert_allclose(directions(embed_ids(minilm, ids, batch_size=2)), minilm.encode(TEXTS), atol=2e-6)
    with tempscale.patch(minilm, 0.7):
        patched = minilm.encode(TEXTS)
        np.testing.assert_allclose(directions(embed_ids(minilm, ids)), patched, atol=2e-6)
    assert np.abs(patched - minilm.encode(TEXTS)).max() > 1e-3


def test_uncut_and_cut_texts(minilm):
    (ids,) = content_ids(minilm, ["word " * 400])
    assert len(ids) == 400
    assert minilm.max_seq_length == 256
    cut = directions(embed_ids(minilm, [ids[:254], ids]))
    np.testing.assert_allclose(cut[0], minilm.encode("word " * 400), atol=2e-6)
    assert np.abs(cut[1] - cut[0]).max() > 1e-3


def test_pooling_by_mean_and_first_token(minilm):
    ids = content_ids(minilm, TEXTS)
    batch = minilm.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = minilm[0].auto_model(**batch).last_hidden_state.double().numpy()
    mask = batch["attention_mask"].numpy()[:, :, None]
    np.testing.assert_allclose(embed_ids(minilm, ids, pooling="cls"), states[:, 0], atol=2e-5)
    np.testing.assert_allclose(embed_ids(minilm, ids, pooling="mean"), (states * mask).sum(1) / mask.sum(1), atol=2e-5)
    np.testing.assert_allclose(embed_ids(minilm, ids, pooling="mean"), embed_ids(minilm, ids), atol=1e-6)


def test_progress_reaches_the_end(minilm):
    shares = []
    embed_ids(minilm, content_ids(minilm, TEXTS), batch_size=2, progress=shares.append)
    assert shares == [2 / 3, 1.0]


def test_positions_of_bert(minilm):
    (ids,) = content_ids(minilm, TEXTS[1:2])
    tokens = torch.tensor([[101, *ids, 102]])
    position = torch.tensor([[0, *range(101, 101 + len(ids) + 1)]])
    with torch.inference_mode():
        states = minilm[0].auto_model(input_ids=tokens, position_ids=position).last_hidden_state
    shifted = embed_ids(minilm, [ids, [*ids, *ids]], first_position=100, pooling="mean")[0]
    np.testing.assert_allclose(shifted, states[0].double().mean(0), atol=2e-5)


@pytest.mark.parametrize("cls", [transformers.MPNetModel, transformers.RobertaModel], ids=["MPNet", "RoBERTa"])
def test_positions_that_begin_after_the_padding_index(minilm, cls):
    """They count from 2 where the padding index is 1, so a shift of 5 begins at 2 + 5 for the content."""
    model = tiny(cls, minilm, max_position_embeddings=64, pad_token_id=1)
    ids = [11, 12, 13]
    tokens = torch.tensor([[101, *ids, 102]])
    with torch.inference_mode():
        plain = model[0].auto_model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        position = torch.tensor([[2, 8, 9, 10, 11]])
        moved = model[0].auto_model(input_ids=tokens, attention_mask=torch.ones_like(tokens), position_ids=position)
    for first_position, expected in ((0, plain), (5, moved)):
        found = embed_ids(model, [ids], pooling="mean", first_position=first_position)
        np.testing.assert_allclose(found, expected.last_hidden_state.double().mean(1), atol=1e-5)


def test_a_model_without_position_ids(minilm):
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=30522, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
    model = Wrapped(transformers.T5EncoderModel(config).eval(), minilm.tokenizer)
    assert not has_position_ids(model)
    assert has_position_ids(minilm)
    assert embed_ids(model, [[5, 6]], pooling="mean").shape == (1, 32)
    with pytest.raises(ValueError, match="T5EncoderModel takes no position ids: leave out first_position"):
        embed_ids(model, [[5, 6]], first_position=1)


def test_random_weights(minilm):
    before = {name: value.clone() for name, value in minilm.state_dict().items()}
    state = torch.get_rng_state()
    first, again, other = random_weights(minilm, 1), random_weights(minilm, 1), random_weights(minilm, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in minilm.state_dict().items())
    x = [model.encode(TEXTS) for model in (minilm, first, again, other)]
    np.testing.assert_array_equal(x[1], x[2])
    assert all(np.abs(x[1] - x[i]).max() > 0.01 for i in (0, 3))


def test_repeat_pad_and_shuffle():
    assert repeat_to([1, 2, 3], 2) == [1, 2]
    assert repeat_to([1, 2, 3], 6) == [1, 2, 3, 1, 2, 3]
    assert pad_to([1, 2, 3], 2, [9]) == [1, 2]
    assert pad_to([1, 2, 3], 3, [9]) == [1, 2, 3]
    assert pad_to([1, 2, 3], 5, [9]) == [1, 2, 3, 9, 9]
    ids = list(range(50))
    assert sorted(shuffle(ids)) == ids != shuffle(ids)
    assert shuffle(ids, 1) == shuffle(ids, 1) != shuffle(ids, 2)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "expected at least one text, and tokens in every text"),
        ([[5], []], {}, "expected at least one text, and tokens in every text"),
        ([[5]], {"pooling": "max"}, "unknown pooling 'max': expected 'model', 'mean' or 'cls'"),
        ([[5] * 511], {}, "a text ends at position 513, but the model has 512 positions: cut it"),
        ([[5] * 10], {"first_position": 501}, "a text ends at position 513, but the model has 512 positions"),
    ],
)
def test_refusals(minilm, texts, options, message):
    with pytest.raises(ValueError, match=message):
        embed_ids(minilm, texts, **options)
