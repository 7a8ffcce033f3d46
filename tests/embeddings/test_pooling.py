"""The pooling null model against simulation and algebra, and the accounting on a model without attention."""

import numpy as np
import pytest
import torch

from tempscale import docstrings
from tempscale.embeddings import collapse
from tempscale.embeddings.controls import content_ids, embed_ids
from tempscale.embeddings.geometry import mean_cosine
from tempscale.embeddings.pooling import PieceModel, explain_collapse, fit_piece_model, pooling_cosine
from tempscale.models import transformer_of


def draw(texts, pieces, *, mean, topic, remainder, d=400, seed=0):
    """Draw pieces (texts, pieces, d) with a mean of squared norm `mean`, and variances (traces) topic and remainder."""
    rng = np.random.default_rng(seed)
    common = np.full(d, np.sqrt(mean / d))
    of_text = np.sqrt(topic / d) * rng.normal(size=(texts, 1, d))
    return common + of_text + np.sqrt(remainder / d) * rng.normal(size=(texts, pieces, d))


def test_pooling_law():
    """E[M·M'] / E|M|² of means of m independent pieces is |μ|² / (|μ|² + s²/m), here within sampling error."""
    for m in (1, 2, 8, 32):
        x = draw(3000, m, mean=0.2, topic=0.0, remainder=0.8, d=40, seed=m).mean(1)
        n = len(x)
        cross = ((x.sum(0) ** 2).sum() - (x**2).sum()) / (n * (n - 1))
        np.testing.assert_allclose(cross / (x**2).sum(1).mean(), pooling_cosine(0.2, 0.8, m), rtol=0.05)


def test_pooling_law_holds_for_the_mean_cosine_in_many_dimensions():
    for m in (1, 4, 16):
        x = draw(300, m, mean=0.2, topic=0.0, remainder=0.8, d=2000, seed=m).mean(1)
        np.testing.assert_allclose(mean_cosine(x), pooling_cosine(0.2, 0.8, m), atol=0.005)


def test_a_topic_stops_the_collapse():
    model = PieceModel(0.2, 0.3, 0.5)
    for m in (1, 4, 16):
        x = draw(300, m, mean=0.2, topic=0.3, remainder=0.5, d=2000, seed=m).mean(1)
        np.testing.assert_allclose(mean_cosine(x), model.cosine(m), atol=0.005)
        np.testing.assert_allclose(model.cosine(m), pooling_cosine(0.2, 0.8, model.effective_pieces(m)))
    np.testing.assert_allclose(model.cosine(1e9), 0.2 / 0.5)
    np.testing.assert_allclose(model.effective_pieces(1e9), 1 / model.correlation)
    assert PieceModel(0.2, 0.0, 0.8).cosine(1e9) == pytest.approx(1)


def test_piece_model_is_estimated_without_bias():
    truth = PieceModel(0.2, 0.3, 0.5)
    fits = np.array(
        [fit_piece_model(draw(25, 3, mean=0.2, topic=0.3, remainder=0.5, d=30, seed=s)) for s in range(800)]
    )
    error = fits.std(0) / np.sqrt(len(fits))
    assert (np.abs(fits.mean(0) - truth) < 4 * error).all()
    assert (error < 0.01).all()


def test_piece_model_by_brute_force():
    x = draw(4, 3, mean=0.2, topic=0.3, remainder=0.5, d=5)
    pieces = x.reshape(12, 5)
    text = np.repeat(np.arange(4), 3)
    dots = pieces @ pieces.T
    square = np.diag(dots).mean()
    same = dots[(text[:, None] == text) & ~np.eye(12, dtype=bool)].mean()
    different = dots[text[:, None] != text].mean()
    np.testing.assert_allclose(fit_piece_model(x), [different, same - different, square - same])


@pytest.mark.parametrize("arguments", [(-1.0, 1.0, 1), (1.0, -1.0, 1), (0.0, 0.0, 1), (1.0, 1.0, 0), (np.nan, 1.0, 1)])
def test_refusals_of_the_law(arguments):
    with pytest.raises(ValueError, match=r"expected mean_square, variance >= 0, not both 0, and pieces > 0, not"):
        pooling_cosine(*arguments)


@pytest.mark.parametrize("shape", [(5, 3), (1, 2, 3), (5, 1, 3)])
def test_refusals_of_the_fit(shape):
    with pytest.raises(ValueError, match=r"shape \(texts, m, d\) with texts, m >= 2, not"):
        fit_piece_model(np.ones(shape))


@pytest.fixture(scope="module")
def texts():
    return docstrings(["numpy"], min_tokens=110).text[:30].tolist()


def test_accounting(shallow, texts):
    shares = []
    frame = explain_collapse(shallow, texts, piece_tokens=24, pieces=4, resamples=500, progress=shares.append)
    assert frame.condition.tolist() == ["opening", "one piece", "pooled", "in place", "joined", "joined"]
    assert frame.effect.tolist() == ["", "content", "pooling", "positions", "attention", "total"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    ids = [text[:96] for text in content_ids(shallow, texts) if len(text) >= 96]
    assert (frame.texts == len(ids)).all()
    by_name = frame.drop_duplicates("condition").set_index("condition").cosine
    np.testing.assert_allclose(by_name["opening"], mean_cosine(embed_ids(shallow, [text[:24] for text in ids])))
    np.testing.assert_allclose(by_name["joined"], mean_cosine(embed_ids(shallow, ids)))
    pieces = [embed_ids(shallow, [text[i : i + 24] for text in ids]) for i in range(0, 96, 24)]
    np.testing.assert_allclose(by_name["pooled"], mean_cosine(np.mean(pieces, axis=0)))
    placed = [embed_ids(shallow, [t[i : i + 24] for t in ids], first_position=i) for i in range(0, 96, 24)]
    np.testing.assert_allclose(by_name["in place"], mean_cosine(np.mean(placed, axis=0)))
    every = np.concatenate(pieces)
    cosine = np.zeros((len(every), len(every)))
    cosine[np.triu_indices(len(every), 1)] = collapse.pairwise_cosine(every)
    different = np.subtract.outer(np.arange(len(every)), np.arange(len(every))) % len(ids) != 0
    np.testing.assert_allclose(by_name["one piece"], (cosine + cosine.T)[different].mean())
    steps = frame.set_index("effect")
    np.testing.assert_allclose(steps.change.drop(["", "total"]).sum(), steps.change["total"])
    assert (frame.low < frame.cosine).all()
    assert (frame.cosine < frame.high).all()


def test_without_attention_all_is_pooling(shallow, texts, monkeypatch):
    """A model that averages token embeddings: joining pieces is averaging them, so attention and positions add nothing."""
    table = shallow[0].auto_model.embeddings.word_embeddings.weight.detach()

    def average(input_ids, attention_mask, position_ids=None):
        class Output:
            last_hidden_state = table[input_ids]

        return Output

    monkeypatch.setattr(shallow[0].auto_model, "forward", average)
    monkeypatch.setattr("tempscale.embeddings.controls.special_ids", lambda model: ([], []))
    steps = explain_collapse(shallow, texts, piece_tokens=24, pieces=4, resamples=200).set_index("effect")
    np.testing.assert_allclose(steps.change[["positions", "attention"]], 0, atol=1e-6)
    assert steps.change["pooling"] > 0.1
    np.testing.assert_allclose(steps.share["content"] + steps.share["pooling"], 1)


def test_without_position_ids_the_step_is_left_out(shallow, texts, monkeypatch):
    monkeypatch.setattr("tempscale.embeddings.pooling.has_position_ids", lambda model: False)
    frame = explain_collapse(shallow, texts, piece_tokens=16, pieces=2, resamples=50)
    assert frame.effect.tolist() == ["", "content", "pooling", "attention", "total"]


def test_the_interval_of_the_mean_covers(monkeypatch):
    """Also of 20 texts, of 600 draws from a known population; percentiles as they are hold in 0.93 of them."""
    opening, rest = draw(3000, 2, mean=2.0, topic=0.5, remainder=2.0, d=50).swapaxes(0, 1)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (opening, opening + rest)]
    truth, covered = [x.mean(0) @ x.mean(0) for x in unit], []
    for seed in range(600):
        rows = np.random.default_rng(seed).permutation(3000)[:20]
        kernels = [x[rows] @ x[rows].T * (1 - np.eye(20)) for x in unit]
        found = dict(zip(("opening", "joined"), kernels, strict=True))
        monkeypatch.setattr("tempscale.embeddings.pooling._kernels", lambda *_, found=found: found)
        frame = explain_collapse(None, [[7] * 8] * 20, piece_tokens=4, pieces=2, resamples=300, seed=seed)
        np.testing.assert_allclose(frame.cosine[:2], [mean_cosine(x[rows]) for x in unit])
        total = frame.iloc[-1]
        covered.append(
            [frame.low[0] <= truth[0] <= frame.high[0], total.change_low <= truth[1] - truth[0] <= total.change_high]
        )
    share = np.mean(covered, axis=0)
    assert (share > 0.94).all(), share
    assert (share < 0.985).all(), share


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pieces": 1}, "expected at least 2 pieces of at least 1 token, not 1 of 32"),
        ({"pieces": 2, "piece_tokens": 0}, "expected at least 2 pieces of at least 1 token, not 2 of 0"),
        ({"pieces": 100}, r"\d+ texts have 3200 tokens: expected at least 20 for 100 pieces"),
    ],
)
def test_refusals_of_the_accounting(shallow, texts, options, message):
    with pytest.raises(ValueError, match=message):
        explain_collapse(shallow, texts, **options)


def test_no_share_of_nothing(shallow, texts, monkeypatch):
    kernel = np.random.default_rng(0).normal(size=(25, 25))
    monkeypatch.setattr("tempscale.embeddings.pooling._kernels", lambda *_: {"opening": kernel, "joined": kernel})
    total = explain_collapse(shallow, texts, piece_tokens=8, pieces=2, resamples=50).iloc[-1]
    assert (total.effect, total.change, total.change_low, total.change_high) == ("total", 0, 0, 0)
    assert np.isnan([total.share, total.share_low, total.share_high]).all()


@torch.inference_mode()
def test_copies_at_the_same_positions_do_not_count(minilm):
    """A text repeated with its special tokens, every copy at the first one's positions, keeps its embedding."""
    tokens = torch.tensor([minilm.tokenizer("Attention weighs tokens, and cannot count them.")["input_ids"]])
    n = tokens.shape[1]

    def embed(times, places):
        states = transformer_of(minilm)(input_ids=tokens.repeat(1, times), position_ids=places[None])
        return states.last_hidden_state.mean(1)

    once = embed(1, torch.arange(n))
    for times in (2, 7):
        torch.testing.assert_close(embed(times, torch.arange(n).repeat(times)), once, rtol=0, atol=1e-5)
        # at positions of their own, they do
        assert (embed(times, torch.arange(n * times)) - once).abs().max() > 0.01
