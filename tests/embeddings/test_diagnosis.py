"""diagnose as a library: what it compares, on a small sample."""

from html import escape
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from scipy import stats
from scipy.spatial.distance import pdist, squareform

import tempscale
from tempscale import LogLength, PerLayer, docstrings, pairwise_cosine
from tempscale.embeddings.cautions import Caution
from tempscale.embeddings.diagnosis import diagnose
from tempscale.embeddings.diagnosis_page import (
    MEASURES,
    answer,
    changes_as_text,
    draw,
    html,
    measures_as_text,
    next_steps,
    verdict,
)

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


def without(found, **changed):
    return type(found)(**{**vars(found), **changed})


@pytest.fixture(scope="module")
def found(shallow, texts):
    shares = []
    found = diagnose(shallow, texts, [0.5], progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    return found


def test_the_same_texts_are_cut(found, texts, shallow):
    assert sorted(found.texts) == sorted(texts[:42])
    assert found.cut.length.unique().tolist() == [16, 32, 64]
    assert (found.cut.texts == 42).all()
    shallow.max_seq_length, before = 32, shallow.max_seq_length
    try:
        expected = pairwise_cosine(shallow.encode(found.texts)).mean()
    finally:
        shallow.max_seq_length = before
    row = found.cut[(found.cut.measure == "mean_cosine") & (found.cut.length == 32)]
    assert row.value.item() == pytest.approx(expected, abs=1e-5)


def test_other_texts_keep_their_lengths(found, texts, shallow):
    assert found.natural.length.unique().tolist() == ["16-31", "32-64"]
    row = found.natural[(found.natural.measure == "mean_cosine") & (found.natural.length == "16-31")]
    np.testing.assert_allclose(row.value, pairwise_cosine(shallow.encode(texts[42:87])).mean(), atol=1e-5)


def off_diagonal_mean(matrix):
    n = len(matrix)
    return (matrix.sum() - np.trace(matrix)) / (n * (n - 1))


def test_temperatures_are_compared_with_1(found, shallow):
    """Values by the model's own encode and SciPy's cosines, intervals by the jackknife: leaving out each text in turn."""
    table = found.temperatures
    assert table.temperature.tolist() == [1.0] * 3 + [0.5] * 3
    cosine, before = {}, shallow.max_seq_length
    try:
        for tau in (1.0, 0.5):
            for tokens in (16, 64):
                shallow.max_seq_length = tokens
                with tempscale.patch(shallow, tau):
                    embeddings = shallow.encode(found.texts).astype(float)
                cosine[tau, tokens] = 1 - squareform(pdist(embeddings, "cosine"))
    finally:
        shallow.max_seq_length = before
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


def test_texts_are_tokenised_once(shallow, texts, monkeypatch):
    given, tokenise = [], type(shallow.tokenizer).__call__

    def counted(self, text, *arguments, **options):
        given.extend(text if isinstance(text, list) else [])
        return tokenise(self, text, *arguments, **options)

    monkeypatch.setattr(type(shallow.tokenizer), "__call__", counted)
    diagnose(shallow, texts[:42], [1.0])
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
    assert "<title>Are longer texts more alike to &lt;b&gt;model&lt;/b&gt;?</title>" in page
    assert page.count("data:image/svg+xml;base64,") == page.count("<img") == page.count("alt=") == 2
    outside = page.replace("http://www.w3.org", "")
    assert "http" not in outside
    assert "src=" not in outside.replace('src="data:', "")
    steps = next_steps(found, "<b>model</b>")
    for sentence in (*verdict(found), *(part for step in steps for part in step)):
        assert escape(sentence) in page


YES, NO = "longer texts are more alike to this model.", "longer texts are hardly more or less alike to this model."
LESS = "longer texts are less alike to this model."
OPEN = "Nothing can be told: 42 texts leave open whether longer ones are more alike to this model."
HIDDEN = "Nothing can be told: the texts begin alike, which can hide a rise."
UNREAD = "Nothing can be told: 13 of 42 texts have characters that the model cannot read."
ALIKE, FEW = Caution("alike", 20, 42, "They begin alike."), Caution("few", 42, 42, "They are few.")
SPELLED = Caution("spelled", 42, 42, "They are spelled out.")
SOME_UNKNOWN, MANY_UNKNOWN = (Caution("unknown", texts, 42, "They cannot be read.") for texts in (12, 13))


def judged(found, low, high, cautions):
    cut = found.cut.copy()
    last = (cut.measure == "mean_cosine") & (cut.length == 64)
    cut.loc[last, ["change", "change_low", "change_high"]] = (low + high) / 2, low, high
    cut.loc[last, "value"] = 0.4
    cut.loc[(cut.measure == "mean_cosine") & (cut.length == 16), "value"] = 0.1
    return without(found, cut=cut, warnings=cautions)


@pytest.mark.parametrize(
    ("low", "high", "cautions", "begin"),
    [
        (0.1, 0.3, [], f"Yes: {YES}"),
        (0.01, 0.06, [FEW], f"Yes: {YES}"),
        (0.01, 0.04, [], f"Yes, but by little: {YES}"),
        (-0.3, -0.1, [], f"No, the opposite: {LESS}"),
        (-0.04, 0.05, [], f"No: {NO}"),
        (-0.04, 0.06, [], OPEN),
        (-0.06, 0.04, [FEW], OPEN),
        # Texts that begin alike are more alike when cut short, so that a rise in spite of that is one.
        (0.1, 0.3, [ALIKE], f"Yes, and the rise may be larger, because the texts begin alike: {YES}"),
        (-0.3, -0.1, [ALIKE], HIDDEN),
        (-0.04, 0.05, [ALIKE], HIDDEN),
        (-0.04, 0.06, [ALIKE], HIDDEN),
        # Of the pairs of 42 texts without 12, half are of two that the model can read; without 13, fewer.
        (0.1, 0.3, [SOME_UNKNOWN], f"Yes, as far as the model can read the texts: {YES}"),
        (0.1, 0.3, [MANY_UNKNOWN], UNREAD),
        (-0.3, -0.1, [ALIKE, MANY_UNKNOWN], UNREAD),
        (-0.04, 0.05, [SPELLED], f"No, though the model may not know the language of the texts: {NO}"),
        (-0.04, 0.06, [SPELLED], OPEN),
    ],
)
def test_the_answer_depends_on_the_interval_and_on_the_warnings(found, low, high, cautions, begin):
    shown = judged(found, low, high, cautions)
    number = f"{(low + high) / 2:+.3f} [{low:+.3f}, {high:+.3f}]"
    expected = f"{begin} Their mean cosine goes from 0.100 at 16 tokens to 0.400 at 64, a change of {number}."
    assert answer(shown) == verdict(shown)[0] == expected
    page = BeautifulSoup(html(shown, {"model": "minilm"}), "html.parser")
    assert page.main.find_all(recursive=False)[1].text == expected
    assert [sentence for sentence in verdict(shown) if sentence.startswith("At temperature 0.5")] == verdict(shown)[2:]


def sentences(found):
    return [step.sentence for step in next_steps(found, "minilm")]


def test_what_to_do_next_names_the_model(found):
    assert [step.command for step in next_steps(found, "my models/mini") if step.command] == [
        "tempscale advise 'my models/mini' pairs.csv",
        "tempscale evaluate 'my models/mini' --tasks pairs.csv --temperatures 1.0,0.9 --out results",
    ]
    assert sentences(found)[0].startswith("Alike embeddings do not by themselves mean worse search: ")


def test_what_is_worth_a_try_depends_on_what_was_found(found):
    read = "2 of 8 texts (25%) are longer than the 256 tokens that the model reads, and what comes after is not read at all"
    averaged = "Averaging alone makes long texts more alike here, by +0.200 [+0.100, +0.300]: "
    pooling, tempered = found.pooling.copy(), found.temperatures.copy()
    pooling.loc[pooling.effect == "pooling", ["change", "change_low", "change_high"]] = 0.2, 0.1, 0.3
    cold = (tempered.temperature == 0.5) & (tempered.length == 64)
    tempered.loc[tempered.length == 64, "rise"] = 0.3
    columns = ["rise_change", "rise_change_low", "rise_change_high"]
    tempered.loc[cold, columns] = -0.05, -0.07, -0.03
    rises = without(judged(found, 0.1, 0.3, []), pooling=pooling, temperatures=tempered, longer=2, given=8)
    assert [said.split(" at all")[0] + " at all" for said in sentences(rises) if "longer than" in said] == [read]
    assert [said for said in sentences(rises) if said.startswith(averaged)]
    smaller = "Temperature 0.5 makes the rise smaller, by -0.050 [-0.070, -0.030] of 0.300: it is worth a try."
    assert smaller in sentences(rises)
    tempered.loc[cold, columns] = -0.01, -0.03, 0.01
    unmoved = "No temperature that was tried (0.5) makes the rise smaller for certain: expect little of one."
    assert unmoved in sentences(rises)
    flat = without(judged(found, -0.01, 0.01, []), pooling=pooling, temperatures=tempered)
    assert "There is no rise that a temperature could take away." in sentences(flat)
    assert not any(
        said.startswith(("Averaging", "No temperature")) or "longer than" in said for said in sentences(flat)
    )
    nothing = without(judged(found, -0.1, 0.2, []), pooling=pooling, temperatures=tempered, longer=2, given=8)
    assert sentences(nothing)[0].startswith("Give more texts that are long: up to 100 are used")
    assert read in " ".join(sentences(nothing))
    assert len(sentences(nothing)) == 5
    assert sentences(judged(found, -0.1, 0.2, [ALIKE]))[0] == "First do what the warning says, and run this again."
    assert sentences(judged(found, 0.1, 0.2, [FEW]))[0].startswith("Alike embeddings")


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


def test_what_is_not_there_is_said(found):
    others = found.cut.measure != "mean_cosine"
    cut = found.cut.assign(value=found.cut.value.mask(others), change=found.cut.change.mask(others))
    pooling = found.pooling.assign(share=np.nan)
    page = html(without(found, cut=cut, pooling=pooling, natural=None), {"model": "minilm"})
    assert "nan" not in BeautifulSoup(page, "html.parser").text.lower()
    assert "undefined → undefined" in page
    assert "the total may be 0" in page
    assert "Other texts at their own lengths are not compared: that takes two ranges of lengths" in page


def test_the_page_begins_with_the_answer_and_the_warnings(found):
    assert found.warnings == []
    warned = without(found, warnings=[Caution("few", 42, 100, "42 of 100 <texts>.")])
    page = html(warned, {"model": "minilm"})
    places = [
        answer(warned),
        "42 of 100 <texts>.",
        "What to do next",
        "tempscale advise minilm pairs.csv",
        verdict(warned)[1],
    ]
    found_at = [page.index(escape(place)) for place in places]
    assert found_at == sorted(found_at)


@pytest.mark.parametrize("width", [1200, 390])
def test_the_change_is_in_view(found, browser, width):
    """No table is wider than the screen: the last column, the change, is to be seen without scrolling."""
    label = "PerLayer({-1: LogLength(reference_length=64, temperature=1.0, exponent=1.0)})"
    named = found.temperatures.temperature.map({1.0: 1.0, 0.5: label})
    shown = without(
        found, warnings=[Caution("few", 42, 42, "a" * 300)], temperatures=found.temperatures.assign(temperature=named)
    )
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
    """They hide the rise that there is."""
    with_prefix = diagnose(minilm, [prefix + text for text in texts[:42]], [])
    assert answer(with_prefix).startswith("Nothing can be told: the texts begin alike, which can hide a rise.")
    assert [(caution.kind, caution.texts) for caution in with_prefix.warnings] == [("alike", 42)]
    assert with_prefix.warnings[0].sentence.startswith("42 of 42 texts begin with ")


def test_half_of_the_texts_the_same_when_cut(shallow, texts):
    header = "From: support@example.com To: all@example.com Subject: your letter of Monday. "
    some = [header * (i % 2) + text for i, text in enumerate(texts[:42])]
    with pytest.raises(ValueError, match="21 of 42 texts are the same when cut to 16 tokens: expected different ones"):
        diagnose(shallow, some, [])


def test_half_of_a_character(shallow, texts):
    with pytest.raises(ValueError, match=r"texts\[1\] has half of a character, '\\ud83d'"):
        diagnose(shallow, [texts[0], "\ud83d"], [])


def test_too_few_because_they_cannot_be_read(shallow):
    message = (
        "0 of 40 different texts have 64 tokens.*; 40 of 40 texts have characters that the tokenizer does not know"
    )
    with pytest.raises(ValueError, match=message):
        diagnose(shallow, [f"คณะกรรมการจะเผยแพร่ผลการสอบสวนในสัปดาห์หน้า {i}" for i in range(40)], [])


def test_schedules_are_named_by_their_labels(shallow, texts):
    schedules = [LogLength(16), PerLayer({-1: 0.5}), 1]
    found = diagnose(shallow, texts[:42], schedules)
    labels = ["LogLength(reference_length=16, temperature=1.0, exponent=1.0)", "PerLayer({-1: 0.5})"]
    assert found.temperatures.temperature.unique().tolist() == [1.0, *labels]
    before = shallow.max_seq_length
    try:
        for schedule, label in zip(schedules, labels, strict=False):
            shallow.max_seq_length = 32
            with tempscale.patch(shallow, schedule):
                expected = pairwise_cosine(shallow.encode(found.texts)).mean()
            row = found.temperatures[(found.temperatures.temperature == label) & (found.temperatures.length == 32)]
            assert row.mean_cosine.item() == pytest.approx(expected, abs=1e-5)
    finally:
        shallow.max_seq_length = before
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


def test_only_temperature_1_needs_no_temperature_site(shallow, texts, monkeypatch):
    monkeypatch.setattr("tempscale.embeddings.diagnosis.patch", None)
    monkeypatch.setattr("tempscale.embeddings.diagnosis.MOST", 40)
    found = diagnose(shallow, texts[:42], [1.0])
    assert found.natural is None
    assert len(found.texts) == 40
    assert "At temperature" not in " ".join(verdict(found))


def test_too_few_texts(shallow, texts):
    message = (
        "19 of 19 different texts have 64 tokens: expected at least 20 such texts, because fewer do not show a rise .with "
        "10 its interval reaches about 0.1 to either side, and rises are about 0.1.: give more texts, or longer ones$"
    )
    with pytest.raises(ValueError, match=message):
        diagnose(shallow, [*texts[:19], *texts[:19]])


def test_a_model_that_reads_too_little(shallow, texts):
    shallow.max_seq_length, before = 63, shallow.max_seq_length
    try:
        with pytest.raises(ValueError, match="the model reads 63 tokens: expected at least 64, to compare lengths"):
            diagnose(shallow, texts)
    finally:
        shallow.max_seq_length = before


def test_20_texts_are_enough(shallow, texts):
    """Also for the bins of other texts; their numbers are those of SciPy's cosines."""
    few = diagnose(shallow, [*texts[:20], *texts[42:62], *texts[87:110]], [0.5])
    assert (few.cut.texts == 20).all()
    assert few.cut.length.unique().tolist() == [16, 32, 64]
    assert few.natural.length.unique().tolist() == ["16-31", "32-64"]
    assert (few.natural.texts == 20).all()
    row = few.natural[(few.natural.measure == "mean_cosine") & (few.natural.length == "16-31")]
    np.testing.assert_allclose(row.value, pairwise_cosine(shallow.encode(texts[42:62])).mean(), atol=1e-5)
    shallow.max_seq_length, before = 64, shallow.max_seq_length
    try:
        embeddings = shallow.encode(few.texts).astype(float)
    finally:
        shallow.max_seq_length = before
    nearest = np.argsort(squareform(pdist(embeddings, "cosine")) + 9 * np.eye(20), axis=1)[:, :5]
    counts = pd.Series(np.bincount(nearest.ravel(), minlength=20), index=few.texts)
    assert few.hubs.occurrence_64.tolist() == counts[few.hubs.text].tolist()
    assert "among the 5 nearest of the 20." in html(few, {"model": "minilm"})
    assert [(caution.kind, caution.texts) for caution in few.warnings] == [("few", 20)]
    assert few.warnings[0].sentence.startswith(
        "With only 20 texts the intervals are wide, about twice as wide as with 100"
    )


def test_40_texts_are_not_given_up_for_longer_ones(shallow, texts):
    """Where 40 texts have 64 tokens and 20 have 128, 40 are cut; where only 30 have 64, the 20 are."""
    long = docstrings(["scipy"], min_tokens=140).text[:20].tolist()
    assert diagnose(shallow, [*texts[:20], *long], []).cut.length.max() == 64
    few = diagnose(shallow, [*texts[:10], *long], [])
    assert few.cut.length.max() == 128
    assert sorted(few.texts) == sorted(long)


def test_texts_longer_than_the_window_are_counted(shallow, texts):
    shallow.max_seq_length, before = 64, shallow.max_seq_length
    try:
        given = [*texts[:42], *texts[:42], *texts[42:52], ""]
        found = diagnose(shallow, given, [])
        lengths = [len(ids) for ids in shallow.tokenizer(list(dict.fromkeys(given)))["input_ids"]]
    finally:
        shallow.max_seq_length = before
    assert (found.window, found.given) == (64, 52)
    assert found.longer == sum(n > 64 for n in lengths) > 30


def test_the_time_is_estimated_before_the_work(shallow, texts, monkeypatch):
    """With a model that takes 1 ms for a token, and 5 s more the first time."""
    clock, events = [0.0], []

    def embed(model, ids, *, first_position=0, progress=lambda share: None):
        clock[0] += 1e-3 * sum(len(text) + 2 for text in ids) + (5.0 if clock[0] == 0 else 0)
        progress(1.0)
        return np.random.default_rng(0).normal(size=(len(ids), 8)) + 1

    monkeypatch.setattr("tempscale.embeddings.diagnosis.embed_ids", embed)
    monkeypatch.setattr("tempscale.embeddings.pooling.embed_ids", embed)
    monkeypatch.setattr("tempscale.embeddings.diagnosis.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def note(of):
        return lambda number: events.append((of, number, clock[0]))

    diagnose(shallow, texts, [0.5], estimate=note("estimate"), progress=note("progress"))
    kinds = [of for of, *_ in events]
    assert kinds == ["estimate", *["progress"] * (len(events) - 1)]
    _, seconds, start = events[0]
    assert seconds == pytest.approx(clock[0] - start, rel=0.1)
