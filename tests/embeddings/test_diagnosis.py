"""diagnose as a library: what it compares, on a small sample."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import tempscale
from tempscale import docstrings, pairwise_cosine
from tempscale.embeddings.controls import content_ids, embed_ids
from tempscale.embeddings.diagnosis import diagnose
from tempscale.embeddings.diagnosis_page import MEASURES, cells, html, verdict

SCRIPT = "<script>alert('text')</script> & "


@pytest.fixture(scope="module")
def texts():
    """Return 42 texts of 64 tokens or a little more, one of them hostile, and 90 shorter ones."""
    frame = docstrings(["numpy", "scipy"])
    long = frame[(frame.tokens >= 70) & (frame.tokens <= 90)].text[:42].tolist()
    long[7] = SCRIPT + long[7]
    short = frame[(frame.tokens >= 16) & (frame.tokens < 32)].text[:45].tolist()
    middle = frame[(frame.tokens >= 32) & (frame.tokens < 64)].text[:45].tolist()
    return [*long, *short, *middle, *long[:3]]


@pytest.fixture(scope="module")
def found(minilm, texts):
    shares = []
    found = diagnose(minilm, texts, [0.5], progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    return found


def test_the_same_texts_are_cut(found, texts, minilm):
    assert sorted(found.texts) == sorted(texts[:42])
    assert found.cut.length.unique().tolist() == [16, 32, 64]
    assert (found.cut.texts == 42).all()
    minilm.max_seq_length, before = 32, minilm.max_seq_length
    try:
        expected = pairwise_cosine(minilm.encode(found.texts)).mean()
    finally:
        minilm.max_seq_length = before
    row = found.cut[(found.cut.measure == "mean_cosine") & (found.cut.length == 32)]
    assert row.value.item() == pytest.approx(expected, abs=1e-5)


def test_other_texts_keep_their_lengths(found, texts, minilm):
    assert found.natural.length.unique().tolist() == ["16-31", "32-64"]
    row = found.natural[(found.natural.measure == "mean_cosine") & (found.natural.length == "16-31")]
    np.testing.assert_allclose(row.value, pairwise_cosine(minilm.encode(texts[42:87])).mean(), atol=1e-5)


def test_temperatures_are_compared_with_1(found, minilm):
    table = found.temperatures
    assert table.temperature.tolist() == [1.0] * 3 + [0.5] * 3
    ids = [ids[:62] for ids in content_ids(minilm, found.texts)]
    h = {}
    for tau in (1.0, 0.5):
        with tempscale.patch(minilm, tau):
            x = embed_ids(minilm, ids)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        h[tau] = (x @ x.sum(0) - 1) / 41
    row = table.iloc[-1]
    difference = h[0.5] - h[1.0]
    half = stats.t.ppf(1 - 0.025 / 3, 41) * 2 * difference.std(ddof=1) / np.sqrt(42)
    np.testing.assert_allclose(
        [row.mean_cosine, row.change, row.change_low, row.change_high],
        [h[0.5].mean(), difference.mean(), difference.mean() - half, difference.mean() + half],
    )
    expected = table.mean_cosine - table.mean_cosine.iloc[[0, 0, 0, 3, 3, 3]].to_numpy()
    np.testing.assert_allclose(table.rise, expected.where(table.length > 16))
    np.testing.assert_allclose(row.rise_change, row.rise - table.rise.iloc[2])
    assert np.isnan(table.rise_change.iloc[3])
    assert (table.change[:3] == 0).all()


def test_the_accounting_begins_and_ends_with_the_texts_themselves(found):
    steps = found.pooling.set_index("effect")
    np.testing.assert_allclose(steps.change.drop(["", "total"]).sum(), steps.change["total"])
    assert steps.texts.unique().tolist() == [42]
    assert (found.piece_tokens, found.pieces) == (16, 3)
    assert verdict(found)[1].startswith(
        "From the first 16 tokens to 48, without special ones, the mean cosine changes by "
    )


def test_hubs_are_texts_with_most_neighbours(found):
    counts = found.hubs.occurrence_64
    assert len(found.hubs) == 10
    assert counts.is_monotonic_decreasing
    assert counts.iloc[0] > 10
    assert set(found.hubs.text) <= set(found.texts)


def test_the_page_is_whole_and_escapes_texts(found):
    hubs = pd.DataFrame({"text": [SCRIPT], "occurrence_16": [1], "occurrence_64": [2]})
    page = html(type(found)(**{**vars(found), "hubs": hubs}), {"model": "<b>model</b>", "command": "tempscale & co"})
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;text&#x27;)&lt;/script&gt; &amp;" in page
    assert "<title>Length collapse in &lt;b&gt;model&lt;/b&gt;</title>" in page
    assert page.count("data:image/svg+xml;base64,") == page.count("<img") == page.count("alt=") == 2
    outside = page.replace("http://www.w3.org", "")
    assert "http" not in outside
    assert "src=" not in outside.replace('src="data:', "")
    for sentence in verdict(found):
        assert sentence.replace("'", "&#x27;") in page


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (0.1, 0.3, "Yes, there is length collapse: the mean cosine of different texts goes from 0.1"),
        (-0.3, -0.1, "No, the opposite: longer texts are less alike: "),
        (-0.1, 0.3, "No length collapse that 42 texts could show: "),
    ],
)
def test_the_answer_depends_on_the_interval(found, low, high, answer):
    cut = found.cut.assign(change_low=low, change_high=high)
    cut.loc[cut.measure == "mean_cosine", "value"] = 0.1
    sentences = verdict(type(found)(**{**vars(found), "cut": cut}))
    assert sentences[0].startswith(answer)
    assert [sentence for sentence in sentences if sentence.startswith("At temperature 0.5")] == sentences[2:]


def test_the_table_has_a_row_per_measure_and_a_column_per_length(found):
    table = cells(found.cut)
    assert table[0] == ["", "16", "32", "64"]
    assert [row[0] for row in table[1:]] == [title for title, _ in MEASURES.values()]
    assert {len(row) for row in table} == {4}
    distance = table[-1]
    assert distance[1] == ""
    assert ", p = " in distance[2]


def test_only_temperature_1_needs_no_temperature_site(minilm, texts, monkeypatch):
    monkeypatch.setattr("tempscale.embeddings.diagnosis.patch", None)
    monkeypatch.setattr("tempscale.embeddings.diagnosis.MOST", 40)
    found = diagnose(minilm, texts[:42], [1.0])
    assert found.natural is None
    assert len(found.texts) == 40
    assert "At temperature" not in " ".join(verdict(found))


def test_too_few_texts(minilm, texts):
    with pytest.raises(
        ValueError,
        match="39 of 39 different texts have 64 tokens, and the model reads 256: expected at least 40 such texts",
    ):
        diagnose(minilm, [*texts[:39], *texts[:39]])
