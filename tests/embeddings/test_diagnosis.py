"""diagnose as a library: what it compares, on a small sample."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from scipy import stats
from scipy.spatial.distance import pdist, squareform

import tempscale
from tempscale import docstrings, pairwise_cosine
from tempscale.embeddings.diagnosis import diagnose
from tempscale.embeddings.diagnosis_page import MEASURES, draw, html, measures_as_text, verdict

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


def off_diagonal_mean(matrix):
    n = len(matrix)
    return (matrix.sum() - np.trace(matrix)) / (n * (n - 1))


def test_temperatures_are_compared_with_1(found, minilm):
    """Values by the model's own encode and SciPy's cosines, intervals by the jackknife: leaving out each text in turn."""
    table = found.temperatures
    assert table.temperature.tolist() == [1.0] * 3 + [0.5] * 3
    cosine, before = {}, minilm.max_seq_length
    try:
        for tau in (1.0, 0.5):
            for tokens in (16, 64):
                minilm.max_seq_length = tokens
                with tempscale.patch(minilm, tau):
                    embeddings = minilm.encode(found.texts).astype(float)
                cosine[tau, tokens] = 1 - squareform(pdist(embeddings, "cosine"))
    finally:
        minilm.max_seq_length = before
    plain, cold = table.iloc[2], table.iloc[-1]
    for row, tau in ((plain, 1.0), (cold, 0.5)):
        np.testing.assert_allclose(row.mean_cosine, off_diagonal_mean(cosine[tau, 64]), atol=1e-5)
        np.testing.assert_allclose(row.rise, off_diagonal_mean(cosine[tau, 64] - cosine[tau, 16]), atol=1e-5)
    change = cosine[0.5, 64] - cosine[1.0, 64]
    rise_change = change - (cosine[0.5, 16] - cosine[1.0, 16])
    # one temperature at three lengths; the shortest has no rise
    for name, matrix, comparisons in (("change", change, 3), ("rise_change", rise_change, 2)):
        kept = [np.delete(np.arange(42), i) for i in range(42)]
        error = np.sqrt(41 * np.var([off_diagonal_mean(matrix[np.ix_(rows, rows)]) for rows in kept]))
        half = stats.t.ppf(1 - 0.025 / comparisons, 41) * error
        np.testing.assert_allclose(cold[name], off_diagonal_mean(matrix), atol=1e-5)
        np.testing.assert_allclose(cold[name] - cold[f"{name}_low"], half, rtol=0.03)
        np.testing.assert_allclose(cold[f"{name}_high"] - cold[name], half, rtol=0.03)
    assert table[["rise", "rise_change"]].isna().any(axis=1).tolist() == [True, False, False] * 2
    assert (table.change[:3] == 0).all()


def test_texts_are_tokenised_once(minilm, texts, monkeypatch):
    given, tokenise = [], type(minilm.tokenizer).__call__

    def counted(self, text, *arguments, **options):
        given.extend(text if isinstance(text, list) else [])
        return tokenise(self, text, *arguments, **options)

    monkeypatch.setattr(type(minilm.tokenizer), "__call__", counted)
    diagnose(minilm, texts[:42], [1.0])
    assert given == texts[:42]


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
    assert "&lt;script&gt;alert('text')&lt;/script&gt; &amp;</th>" in page
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
    table = measures_as_text(found.cut)
    assert table.columns.tolist() == ["", 16, 32, 64]
    assert table[""].tolist() == [title for title, _ in MEASURES.values()]
    distance = table.iloc[-1]
    assert distance[16] == ""
    assert ", p = " in distance[32]
    assert measures_as_text(found.natural).columns.tolist() == ["", "16-31", "32-64"]


def test_tables_of_the_page_have_captions_and_headings(found):
    page = BeautifulSoup(html(found, {"model": "minilm"}), "html.parser")
    tables = page.find_all("table")
    assert [len(table.find_all("th", scope="col")) for table in tables] == [4, 3, 5, 5, 3]
    assert [len(table.find_all("th", scope="row")) for table in tables] == [8, 8, 6, 3, 10]
    assert all(cell.has_attr("scope") for cell in page.find_all("th"))
    assert all(table.caption.text == table.parent["aria-label"] for table in tables)
    rows = [[cell.text for cell in row.find_all(["th", "td"])] for row in tables[0].find_all("tr")]
    assert rows[0] == ["", "16", "32", "64"]
    assert rows[1:] == measures_as_text(found.cut).to_numpy().tolist()


def test_drawing_leaves_the_settings_of_matplotlib(found):
    with mpl.rc_context({"lines.linewidth": 7.5, "savefig.bbox": None}):
        before = dict(mpl.rcParams)
        figures = draw(found)
        assert html(found, {"model": "minilm"})
        assert dict(mpl.rcParams) == before
    axis = next(iter(figures.values()))[0].axes[0]
    assert axis.lines[0].get_linewidth() == 1.8, "the book's look and not the caller's"


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
