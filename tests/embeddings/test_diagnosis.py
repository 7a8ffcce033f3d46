"""diagnose as a library: what it compares, on a small sample."""

import shutil

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from scipy import stats
from scipy.spatial.distance import pdist, squareform

import tempscale
from tempscale import LogLength, PerLayer, docstrings, pairwise_cosine
from tempscale.embeddings.diagnosis import diagnose
from tempscale.embeddings.diagnosis_page import MEASURES, changes_as_text, draw, html, measures_as_text, verdict

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
        "From the first 16 tokens to 48, without those that the model adds, the mean cosine changes by "
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
    assert [sentence for sentence in sentences if sentence.startswith("At temperature 0.5")] == sentences[2:-1]


def test_the_table_has_a_row_per_measure_and_a_column_per_length(found):
    table = measures_as_text(found.cut)
    assert table.columns.tolist() == ["", 16, 32, 64]
    assert table[""].tolist() == [title for title, _ in MEASURES.values()]
    distance = table.iloc[-1]
    assert distance[16] == ""
    assert ", p = " in distance[32]
    assert measures_as_text(found.natural).columns.tolist() == ["", "16-31", "32-64"]


def test_what_changes_is_the_last_length_against_the_first(found):
    table = changes_as_text(found.cut)
    assert table.columns.tolist() == ["", "16 → 64 tokens", "change"]
    first, last = found.cut[found.cut.measure == "mean_cosine"].iloc[[0, -1]].itertuples()
    assert table.iloc[0].tolist() == [
        "mean cosine",
        f"{first.value:.3f} → {last.value:.3f}",
        f"{last.change:+.3f} [{last.change_low:+.3f}, {last.change_high:+.3f}]",
    ]
    assert table.iloc[-1, 1] == ""
    assert ", p = " in table.iloc[-1, 2]


def without(found, **changed):
    return type(found)(**{**vars(found), **changed})


def test_what_is_not_there_is_said(found):
    others = found.cut.measure != "mean_cosine"
    cut = found.cut.assign(value=found.cut.value.mask(others), change=found.cut.change.mask(others))
    pooling = found.pooling.assign(share=np.nan)
    page = html(without(found, cut=cut, pooling=pooling, natural=None), {"model": "minilm"})
    assert "nan" not in BeautifulSoup(page, "html.parser").text.lower()
    assert "undefined → undefined" in page
    assert "the total may be 0" in page
    assert "Other texts at their own lengths are not compared: that takes two ranges of lengths" in page


def test_warnings_stand_before_the_verdict(found):
    assert found.warnings == []
    page = html(without(found, warnings=["62 of 100 <begin> alike."]), {"model": "minilm"})
    assert 0 < page.index("62 of 100 &lt;begin&gt; alike.") < page.index(verdict(found)[0][:30])


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1200, 390])
def test_the_change_is_in_view(found, browser, width):
    """No table is wider than the screen: the last column, the change, is to be seen without scrolling."""
    label = "PerLayer({-1: LogLength(reference_length=64, temperature=1.0, exponent=1.0)})"
    named = found.temperatures.temperature.map({1.0: 1.0, 0.5: label})
    shown = without(found, warnings=["a" * 300], temperatures=found.temperatures.assign(temperature=named))
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        page = context.new_page()
        page.set_content(html(shown, {"model": "folder/" * 30}))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cells = page.locator("main > .scroll tr > :last-child").all()
        boxes = [cell.bounding_box() for cell in cells]
        assert len(boxes) == 9 + 9 + 7 + 4 + 11
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)


@pytest.mark.parametrize("prefix", ["<p>", '<div class="body">', "Dear customer service team, "])
def test_shared_openings_are_warned_of(minilm, texts, prefix):
    """They turn the verdict around."""
    with_prefix = diagnose(minilm, [prefix + text for text in texts[:42]], [])
    assert "No" in verdict(with_prefix)[0]
    assert len(with_prefix.warnings) == 1
    assert with_prefix.warnings[0].startswith("42 of 42 texts begin with ")


def test_half_of_the_texts_the_same_when_cut(minilm, texts):
    header = "From: support@example.com To: all@example.com Subject: your letter of Monday. "
    some = [header * (i % 2) + text for i, text in enumerate(texts[:42])]
    with pytest.raises(ValueError, match="21 of 42 texts are the same when cut to 16 tokens: expected different ones"):
        diagnose(minilm, some, [])


def test_half_of_a_character(minilm, texts):
    with pytest.raises(ValueError, match=r"texts\[1\] has half of a character, '\\ud83d'"):
        diagnose(minilm, [texts[0], "\ud83d"], [])


def test_too_few_because_they_cannot_be_read(minilm):
    message = (
        "0 of 40 different texts have 64 tokens.*; 40 of 40 texts have characters that the tokenizer does not know"
    )
    with pytest.raises(ValueError, match=message):
        diagnose(minilm, [f"คณะกรรมการจะเผยแพร่ผลการสอบสวนในสัปดาห์หน้า {i}" for i in range(40)], [])


def test_schedules_are_named_by_their_labels(minilm, texts):
    schedules = [LogLength(16), PerLayer({-1: 0.5}), 1]
    found = diagnose(minilm, texts[:42], schedules)
    labels = ["LogLength(reference_length=16, temperature=1.0, exponent=1.0)", "PerLayer({-1: 0.5})"]
    assert found.temperatures.temperature.unique().tolist() == [1.0, *labels]
    before = minilm.max_seq_length
    try:
        for schedule, label in zip(schedules, labels, strict=False):
            minilm.max_seq_length = 32
            with tempscale.patch(minilm, schedule):
                expected = pairwise_cosine(minilm.encode(found.texts)).mean()
            row = found.temperatures[(found.temperatures.temperature == label) & (found.temperatures.length == 32)]
            assert row.mean_cosine.item() == pytest.approx(expected, abs=1e-5)
    finally:
        minilm.max_seq_length = before
    assert f"At temperature {labels[0]} the mean cosine at 64 tokens changes by" in verdict(found)[2]
    assert labels[1] in html(found, {"model": "minilm"})


def test_tables_of_the_page_have_captions_and_headings(found):
    page = BeautifulSoup(html(found, {"model": "minilm"}), "html.parser")
    tables = page.find_all("table")
    assert [len(table.find_all("th", scope="col")) for table in tables] == [3, 3, 5, 5, 3, 4, 3]
    assert [len(table.find_all("th", scope="row")) for table in tables] == [8, 8, 6, 3, 10, 8, 8]
    assert all(cell.has_attr("scope") for cell in page.find_all("th"))
    assert all(table.caption.text == table.parent["aria-label"] for table in tables)
    rows = [[cell.text for cell in row.find_all(["th", "td"])] for row in tables[5].find_all("tr")]
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
