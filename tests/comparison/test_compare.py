"""compare on made-up stores whose truth is known: plain NumPy, definitions, and simulation are the oracles."""

import json
import re
import sqlite3
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tempscale.comparison.compare import COLUMNS, compare
from tempscale.comparison.matching import ChoiceError
from tempscale.evaluation.store import FILE, Item, Measured, Store, Unit

UNIT = Unit("minilm", "m1", "A", "Retrieval", "test", "default", "1.0", "all", "both", 256, "float32", "d1")
MEASURED = Measured(0.0, "ndcg_at_10", "mean", "cpu", "{}", "", 1.0, 1)


def add(store, unit, scores, *, target=None, tokens=None, statistic=None, names=None, main=None, clusters=None, sources=None,
        texts=None, experiments=None):  # fmt: skip
    scores = np.asarray(scores, dtype=float)
    if statistic is None:
        statistic = "mean" if target is None else "spearman"
    if main is None:
        main = scores.mean() if target is None else stats.spearmanr(scores, target)[0]
    items = [
        Item(
            str(i) if names is None else names[i],
            None if tokens is None else int(tokens[i]),
            score,
            None if target is None else target[i],
            None if clusters is None else str(clusters[i]),
            None if sources is None else sources[i],
            None if texts is None else texts[i],
        )
        for i, score in enumerate(scores)
    ]
    raw = {} if experiments is None else {"scores_per_experiment": [{MEASURED.metric: one} for one in experiments]}
    measured = replace(MEASURED, main_score=float(main), statistic=statistic, scores=json.dumps(raw))
    store.add(unit, measured, items)


def noisy(rng, n, gain=0.0):
    """Scores of n items under a baseline and a setting."""
    before = rng.random(n)
    return before, before + rng.normal(gain, 0.1, n)


@pytest.fixture
def filled(tmp_path):
    """Three tasks, one with two subsets, under three settings; one without scores of items."""
    rng = np.random.default_rng(0)
    data = {}
    with Store(tmp_path) as store:
        for task, subset, n in [("A", "default", 60), ("B", "de", 80), ("B", "en", 40), ("C", "default", 100)]:
            unit = replace(UNIT, task=task, subset=subset)
            target = rng.integers(6, size=n).astype(float) if task == "C" else None
            tokens = rng.permutation(n) + 1
            before = rng.random(n) if target is None else target + rng.normal(0, 2, n)
            data[task, subset] = (target, tokens, [before])
            add(store, unit, before, target=target, tokens=tokens)
            # the same temperature, elsewhere: not a setting of its own
            add(store, replace(unit, layers="last:3"), before + 1e-9, target=target, tokens=tokens)
            for temperature, layers in [("0.9", "all"), ("0.9", "last:3"), ("LogLength(128)", "all")]:
                after = before + rng.normal(0.02, 0.1, n)
                data[task, subset][2].append(after)
                add(store, replace(unit, temperature=temperature, layers=layers), after, target=target, tokens=tokens)
        for temperature, main in [("1.0", 0.5), ("0.9", 0.6)]:
            add(store, replace(UNIT, task="D", temperature=temperature), [], statistic="none", main=main)
    return tmp_path, data


def statistic(scores, target):
    return scores.mean() if target is None else stats.spearmanr(scores, target)[0]


def test_differences_are_those_of_the_scores(filled):
    out, data = filled
    frame = compare(out)
    assert list(frame.columns) == COLUMNS
    assert frame.scope.value_counts()[["task", "part"]].tolist() == [3 * 3 + 1, 2 * 3]
    for (task, subset), (target, _, (before, *settings)) in data.items():
        scope = "part" if task == "B" else "task"
        rows = frame[(frame.scope == scope) & (frame.task == task) & (frame.subset == subset)]
        assert rows.temperature.tolist() == ["0.9", "0.9", "LogLength(128)"], "hot to cold, schedules last"
        assert rows.layers.tolist() == ["all", "last:3", "all"]
        assert np.allclose(rows.baseline, statistic(before, target))
        assert np.allclose(rows.score, [statistic(after, target) for after in settings])
        assert np.allclose(rows.difference, rows.score - rows.baseline)
        assert (rows["items"] == len(before)).all()


def test_interval_and_p_value_of_a_task_are_those_of_standard_procedures(filled):
    out, data = filled
    row = compare(out, resamples=20000).query("scope == 'task' and task == 'A'").iloc[0]
    _, _, (before, after, *_) = data["A", "default"]
    ci = stats.bootstrap((after - before,), np.mean, method="percentile", random_state=np.random.default_rng(1))
    assert np.allclose([row.low, row.high], ci.confidence_interval, atol=0.06 * ci.standard_error)
    assert row.half_width == (row.high - row.low) / 2
    p = stats.permutation_test(
        (after - before,), np.mean, permutation_type="samples", n_resamples=20000, random_state=1
    )
    assert abs(row.p - p.pvalue) < 4 * np.sqrt(2 * row.p * (1 - row.p) / 20000)


def test_length_bins_hold_the_items_of_their_lengths(filled):
    out, data = filled
    frame = compare(out, bins=[21])
    rows = frame.query("scope == 'length' and task == 'A' and temperature == '0.9' and layers == 'all'")
    _, tokens, (before, after, *_) = data["A", "default"]
    assert rows.tokens.tolist() == ["1-20", "21-60"]
    assert rows["items"].tolist() == [20, 40]
    assert np.allclose(rows.difference, [(after - before)[chosen].mean() for chosen in (tokens < 21, tokens >= 21)])
    target, tokens, (before, after, *_) = data["C", "default"]
    long = frame.query("scope == 'length' and task == 'C' and temperature == '0.9' and tokens == '21-100'").iloc[0]
    chosen = tokens >= 21
    assert np.isclose(long.score, stats.spearmanr(after[chosen], target[chosen])[0])
    quarters = compare(out).query("scope == 'length' and task == 'C' and temperature == '0.9' and layers == 'all'")
    assert quarters["items"].tolist() == [25] * 4
    assert quarters.tokens.tolist() == ["1-25", "26-50", "51-75", "76-100"]


def test_a_task_is_the_mean_over_its_subsets_and_overall_the_mean_over_tasks(filled):
    frame = compare(filled[0])
    settings = ["temperature", "layers"]
    parts, tasks = frame[frame.scope == "part"], frame[(frame.scope == "task") & (frame.task != "D")]
    overall = frame[frame.scope == "overall"]
    for name, rows, means, n in (("B", parts, tasks[tasks.task == "B"], 120), ("", tasks, overall, 280)):
        assert set(means.task) == {name}
        means = means.set_index(settings)
        for setting, of_setting in rows.groupby(settings):
            row = means.loc[setting]
            assert np.isclose(row.baseline, of_setting.baseline.mean())
            assert np.isclose(row.difference, of_setting.difference.mean())
            # independent items: variances add
            half = np.sqrt((of_setting.half_width**2).sum()) / len(of_setting)
            assert np.isclose(row.half_width, half, rtol=0.1)
            assert np.isclose(row.p, 2 * stats.norm.sf(abs(row.difference) / half * 1.96), atol=0.05)
            assert row["items"] == n


def test_a_setting_that_lacks_a_part_has_no_mean_over_the_task(filled):
    out, _ = filled
    with Store(out) as store:
        add(store, replace(UNIT, task="B", subset="de", temperature="0.8"), np.random.default_rng(3).random(80))
        add(store, replace(UNIT, task="E"), [], statistic="none", main=0.5)
        add(store, replace(UNIT, task="E", temperature="0.9"), [], statistic="none", main=0.6)
        add(store, replace(UNIT, task="E", subset="en"), np.arange(20.0))
        add(store, replace(UNIT, task="E", subset="en", temperature="0.9"), np.arange(20.0))
    with pytest.warns(UserWarning, match=r"^without a mean over the splits and subsets .*: 0\.8 on B \(1 of 2\)$"):
        frame = compare(out)
    of_setting = frame[(frame.task == "B") & (frame.temperature == "0.8")]
    assert of_setting[of_setting.tokens == ""].scope.tolist() == ["part"]
    # a part without scores of items: a mean, but no interval
    row = frame[(frame.task == "E") & (frame.scope == "task")].iloc[0]
    assert np.isclose(row.difference, 0.05)
    assert np.isnan(row.low)


def test_a_task_without_items_has_a_difference_only(filled):
    (row,) = compare(filled[0]).query("task == 'D'").itertuples()
    assert (row.scope, row.items) == ("task", 0)
    assert np.isclose(row.difference, 0.1)
    assert np.isnan([row.low, row.high, row.half_width, row.p, row.p_holm]).all()


def holm_by_definition(p):
    """Step down through the sorted p-values."""
    order, result, largest = sorted(range(len(p)), key=lambda i: p[i]), [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        result[i] = largest
    return result


def test_holm_corrects_over_the_tasks_of_each_setting(filled):
    frame = compare(filled[0])
    frame = frame[frame.p.notna()]
    for scope, by in [("task", True), ("length", True), ("overall", False), ("held-out", False)]:
        rows = frame[frame.scope == scope]
        families = rows.groupby(["temperature", "layers"]) if by else [(None, rows)]
        for _, family in families:
            assert len(family) > 2
            assert np.allclose(family.p_holm, holm_by_definition(family.p.tolist()))


def test_held_out_takes_the_setting_that_is_best_elsewhere(tmp_path):
    """0.9 gains most on A and C, 0.8 on B: B gets 0.9; A and C get what is better on average elsewhere."""
    gains = {"A": (0.3, 0.1), "B": (-0.1, 0.2), "C": (0.3, 0.05)}
    rng = np.random.default_rng(1)
    with Store(tmp_path) as store:
        for task, (first, second) in gains.items():
            before = rng.random(50)
            for temperature, gain in [("1.0", 0.0), ("0.9", first), ("0.8", second)]:
                add(store, replace(UNIT, task=task, temperature=temperature), before + gain)
    frame = compare(tmp_path)
    rows = frame[frame.scope == "held-out"].set_index("task")
    # elsewhere for A: 0.9 has (-0.1 + 0.3) / 2, 0.8 has (0.2 + 0.05) / 2
    assert rows.temperature.to_dict() == {"A": "0.8", "B": "0.9", "C": "0.8"}
    assert set(rows.choice) == {"setting"}
    assert np.allclose(rows.difference, [0.1, -0.1, 0.05])
    total = frame[frame.scope == "held-out overall"].iloc[0]
    assert (total.temperature, total.choice, total["items"]) == ("", "each", 150)
    assert np.isclose(total.difference, 0.05 / 3)


def test_the_baseline_is_held_out_when_nothing_gains_elsewhere(tmp_path):
    rng = np.random.default_rng(2)
    with Store(tmp_path) as store:
        for task, gain in [("A", -0.1), ("B", -0.2)]:
            before, after = noisy(rng, 50, gain)
            add(store, replace(UNIT, task=task), before)
            add(store, replace(UNIT, task=task, temperature="0.9"), after)
    rows = compare(tmp_path).query("scope == 'held-out'")
    assert rows.temperature.tolist() == ["1.0", "1.0"], "spelt as in the store"
    assert rows.choice.tolist() == ["baseline", "baseline"]
    assert rows[["difference", "low", "high"]].to_numpy().tolist() == [[0.0] * 3] * 2
    assert rows.p.tolist() == [1, 1]


def test_another_task_changes_no_interval(filled):
    out, _ = filled
    before = compare(out).query("scope == 'task'")
    with Store(out) as store:
        for temperature in ("1.0", "0.9"):
            add(store, replace(UNIT, task="0", temperature=temperature), np.arange(20.0))
    with pytest.warns(UserWarning, match="2 of 3 settings lack some of the 4 tasks, and are left out of the held-out"):
        after = compare(out).query("scope == 'task' and task != '0'")
    columns = ["task", "subset", "difference", "low", "high", "p"]
    pd.testing.assert_frame_equal(before[columns].reset_index(drop=True), after[columns].reset_index(drop=True))


def test_tasks_of_the_same_size_are_resampled_independently(tmp_path):
    before, after = noisy(np.random.default_rng(4), 100)
    with Store(tmp_path) as store:
        for task in ("A", "B"):
            add(store, replace(UNIT, task=task), before)
            add(store, replace(UNIT, task=task, temperature="0.9"), after)
    frame = compare(tmp_path)
    one, both = frame[frame.scope == "task"].half_width.mean(), frame[frame.scope == "overall"].half_width.iloc[0]
    assert np.isclose(both, one / np.sqrt(2), rtol=0.08), "not equal to one, as with one stream for both"


@pytest.mark.parametrize("label", ["1", "1.0", "1.00"])
def test_the_baseline_is_a_number_not_a_spelling(tmp_path, label):
    before, after = noisy(np.random.default_rng(5), 30)
    with Store(tmp_path) as store:
        add(store, replace(UNIT, temperature=label), before)
        add(store, replace(UNIT, temperature="0.9"), after)
    assert compare(tmp_path).query("scope == 'task'").temperature.tolist() == ["0.9"]


def test_another_baseline_is_compared_in_the_same_layers(tmp_path):
    rng = np.random.default_rng(6)
    scores = {(t, layers): rng.random(30) for t in ("1.0", "0.9", "0.8") for layers in ("all", "last:3")}
    with Store(tmp_path) as store:
        for (temperature, layers), values in scores.items():
            add(store, replace(UNIT, temperature=temperature, layers=layers), values)
    rows = compare(tmp_path, baseline=0.9).query("scope in ['task', 'overall']")
    assert len(rows) == 8
    for row in rows.itertuples():
        assert np.isclose(row.baseline, scores["0.9", row.layers].mean())
        assert np.isclose(row.score, scores[row.temperature, row.layers].mean())


@pytest.mark.parametrize("field", ["model", "model_hash", "max_seq_length", "dtype"])
def test_only_the_same_model_length_and_dtype_are_compared(tmp_path, field):
    before, after = noisy(np.random.default_rng(7), 30)
    other = {field: 512 if field == "max_seq_length" else "other"}
    with Store(tmp_path) as store:
        add(store, UNIT, before)
        add(store, replace(UNIT, temperature="0.9", **other), after)
    with pytest.raises(ValueError, match="evaluate"):
        compare(tmp_path, versions="all")
    with Store(tmp_path) as store:
        add(store, replace(UNIT, **other), before + 1)
    with pytest.warns(UserWarning, match="left out: minilm has results only at the baseline temperature 1"):
        frame = compare(tmp_path, versions="all")
    assert np.isclose(frame.query("scope == 'task'").difference, (after - before).mean() - 1).all()


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results in"):
        compare(tmp_path)
    Store(tmp_path).close()
    with pytest.raises(ValueError, match=r"no finished results in .*: run tempscale evaluate first"):
        compare(tmp_path)


def test_no_baseline(tmp_path):
    with Store(tmp_path) as store:
        for temperature in ("0.9", "0.8"):
            add(store, replace(UNIT, temperature=temperature), np.arange(20.0))
    message = (
        r"no results of minilm at the baseline temperature 1\.0, only 0\.8, 0\.9: evaluate it too, or name another"
    )
    with pytest.raises(ValueError, match=message):
        compare(tmp_path)


def test_only_one_temperature(tmp_path):
    with Store(tmp_path) as store:
        add(store, UNIT, np.arange(20.0))
    with pytest.raises(ValueError, match=r"minilm has results only at the baseline temperature 1\.0: evaluate others"):
        compare(tmp_path)


def test_no_task_has_both(tmp_path):
    with Store(tmp_path) as store:
        add(store, UNIT, np.arange(20.0))
        add(store, replace(UNIT, task="B", temperature="0.9"), np.arange(20.0))
    with (
        pytest.warns(UserWarning, match=r"left out: B \(test, default\) has no result of minilm at the baseline"),
        pytest.raises(ValueError, match=r"no task in .* has both a baseline and another temperature"),
    ):
        compare(tmp_path)


def test_changed_data_is_not_compared(tmp_path):
    with Store(tmp_path) as store:
        add(store, UNIT, np.arange(20.0))
        add(store, replace(UNIT, task="B"), np.arange(20.0))
        add(store, replace(UNIT, task="B", temperature="0.9"), np.arange(20.0))
        add(store, replace(UNIT, temperature="0.9", data_hash="new"), np.arange(20.0))
    with (
        pytest.warns(UserWarning, match=r"left out: A \(test, default\) .* on the same data"),
        pytest.warns(UserWarning, match=r"under the same name are left out \(A, 1 of 2 units of other data\)"),
    ):
        assert set(compare(tmp_path).query("scope == 'task'").task) == {"B"}


def test_other_items_are_an_error(tmp_path):
    with Store(tmp_path) as store:
        add(store, UNIT, np.arange(20.0))
        add(store, replace(UNIT, temperature="0.9"), np.arange(20.0), names=[f"q{i}" for i in range(20)])
    with pytest.raises(
        ValueError, match=r"A \(test, default\): temperature 0.9 has other items \(20\) than the baseline"
    ):
        compare(tmp_path)


def test_small_bins_and_tasks_get_no_interval(tmp_path):
    with Store(tmp_path) as store:
        for temperature in ("1.0", "0.9"):
            unit = replace(UNIT, temperature=temperature)
            add(store, unit, np.arange(9.0), tokens=np.arange(9))
            target = np.repeat([0.0, 1.0], 15)
            add(store, replace(unit, task="B"), np.arange(30.0), target=target, tokens=np.arange(30))
    with pytest.warns(
        UserWarning, match=r"^lengths without a row: A \(1 of 1\), B \(2 of 2\); they have fewer than 10"
    ):
        frame = compare(tmp_path, bins=[15])
    # nine items are too few, and half of B has one rating only, which nothing ranks like
    assert frame.scope.tolist() == ["task", "task", "overall"]
    assert frame.low.isna().tolist() == [True, False, False]


def test_a_remedy_is_a_setting_and_the_baseline_has_none(tmp_path):
    rng = np.random.default_rng(8)
    whole, pieces, both = rng.random((3, 30))
    with Store(tmp_path) as store:
        add(store, replace(UNIT, remedy="pieces(128)"), pieces)
        add(store, replace(UNIT, remedy="pieces(128)", temperature="0.9"), both)
    with pytest.raises(
        ValueError, match=r"at the baseline temperature 1\.0, only 0\.9 pieces\(128\), 1\.0 pieces\(128\):"
    ):
        compare(tmp_path)
    with Store(tmp_path) as store:
        add(store, UNIT, whole)
    rows = compare(tmp_path).query("scope == 'task'")
    assert rows.temperature.tolist() == ["1.0", "0.9"]
    assert rows.remedy.tolist() == ["pieces(128)"] * 2
    assert np.allclose(rows.difference, [(pieces - whole).mean(), (both - whole).mean()])
    assert (rows.baseline == whole.mean()).all()


def test_chosen_tasks_are_as_if_there_were_no_others(filled, tmp_path_factory):
    out, _ = filled
    fewer = tmp_path_factory.mktemp("fewer")
    with Store(out) as store, Store(fewer) as copy:
        for unit in store.units().to_dict("records"):
            if unit["task"] in ("A", "C"):
                kept = Unit(**{name: unit[name] for name in vars(UNIT)})
                items = store.items(unit["id"])
                target = None if unit["statistic"] == "mean" else items.target
                add(copy, kept, items.score, target=target, tokens=items.tokens)
    chosen = compare(out, tasks=["C", "A"])
    assert set(chosen.task) == {"A", "C", ""}
    order = ["scope", "task", "tokens", "temperature", "layers"]
    expected = compare(fewer)
    pd.testing.assert_frame_equal(*(frame.sort_values(order, ignore_index=True) for frame in (chosen, expected)))
    assert len(compare(out)) > len(chosen)
    assert set(compare(out, tasks=["A"]).scope) == {"task", "length", "overall"}, "nothing to hold out"


def test_tasks_and_models_that_are_not_there(filled):
    with pytest.raises(ChoiceError, match="no results of the task 'E': there are those of A, B, C, D"):
        compare(filled[0], tasks=["A", "E"])
    with pytest.raises(ChoiceError, match="no task to compare: name some of A, B, C, D, or leave tasks out for all"):
        compare(filled[0], tasks=[])
    with pytest.raises(
        ChoiceError, match="no results of the model 'mini' to compare against: there are those of minilm"
    ):
        compare(filled[0], against="mini")


@pytest.fixture
def whitened(tmp_path):
    """A model at two temperatures, and a whitened copy of it at the temperature 1, whole and in chunks."""
    rng = np.random.default_rng(9)
    scores = {task: rng.random((4, 40)) for task in ("A", "B")}
    with Store(tmp_path) as store:
        for task, (plain, colder, white, white_chunks) in scores.items():
            unit = replace(UNIT, task=task)
            other = replace(unit, model="white", model_hash="m2")
            add(store, unit, plain)
            add(store, replace(unit, temperature="0.9"), colder)
            add(store, other, white)
            add(store, replace(other, remedy="pieces(64)"), white_chunks)
    return tmp_path, scores


def test_against_another_model(whitened):
    out, scores = whitened
    own = compare(out)
    frame = compare(out, against="minilm")
    assert (own.against == own.model).all()
    both = [f[f.model == "minilm"].reset_index(drop=True) for f in (frame, own)]
    pd.testing.assert_frame_equal(*(f.drop(columns="p_holm_all") for f in both))
    rows = frame.query("scope == 'task' and model == 'white'")
    assert (rows.against == "minilm").all()
    assert rows.remedy.tolist() == ["", "pieces(64)"] * 2
    for row in rows.itertuples():
        plain, _, white, chunks = scores[row.task]
        after = chunks if row.remedy else white
        assert np.isclose(row.difference, (after - plain).mean())
        assert np.isclose(row.baseline, plain.mean())
        error = (after - plain).std() / np.sqrt(40)
        assert np.isclose(row.half_width, 1.96 * error, rtol=0.1), "paired: of the differences of the same items"
    held = frame[frame.scope.str.startswith("held-out") & (frame.model == "white")]
    assert held.temperature.tolist() == ["1.0", "1.0", ""]
    assert set(held.choice[:-1]) <= {"setting", "baseline"}, "its own temperature 1 is a setting like others"


def test_against_a_model_that_is_there_only_for_that(tmp_path):
    before, after = noisy(np.random.default_rng(10), 30)
    with Store(tmp_path) as store:
        add(store, UNIT, before)
        add(store, replace(UNIT, model="white", temperature="0.9"), after)
        add(store, replace(UNIT, model="white", temperature="0.9", task="B"), after)
    with pytest.warns(UserWarning, match=r"left out: B \(test, default\) has no result of minilm at the") as caught:
        frame = compare(tmp_path, against="minilm")
    assert len(caught) == 1, "and no word about minilm having nothing else"
    assert np.isclose(frame.query("scope == 'task'").difference.item(), (after - before).mean())
    with pytest.raises(ValueError, match=r"no results of minilm at the baseline temperature 0.9, only 1.0"):
        compare(tmp_path, against="minilm", baseline=0.9)


def test_of_several_baselines_of_a_model_the_one_of_the_same_length_or_an_error(tmp_path):
    rng = np.random.default_rng(11)
    scores = {length: rng.random(30) for length in (256, 512)}
    after = rng.random(30)
    white = replace(UNIT, model="white", model_hash="m2", max_seq_length=512)
    with Store(tmp_path) as store:
        for length, values in scores.items():
            add(store, replace(UNIT, max_seq_length=length), values)
        add(store, white, after)
    (row,) = compare(tmp_path, against="minilm").query("scope == 'task'").itertuples()
    assert np.isclose(row.difference, (after - scores[512]).mean())
    with Store(tmp_path) as store:
        add(store, replace(white, max_seq_length=128), after)
    message = (
        r"A \(test, default\) has 2 baselines of minilm to compare white with \(hash m1, max_seq_length 256, float32; "
        r"hash m1, max_seq_length 512, float32\): evaluate the model to compare with once"
    )
    with pytest.raises(ChoiceError, match=message):
        compare(tmp_path, against="minilm")
    with Store(tmp_path) as store:
        add(store, replace(UNIT, model_hash="m3", max_seq_length=128), scores[256] + 1)
    rows = compare(tmp_path, against="minilm", versions="all").query("scope == 'task'")
    assert np.allclose(
        sorted(rows.difference), sorted([(after - scores[512]).mean(), (after - scores[256] - 1).mean()])
    )


def test_queries_that_share_a_document_are_resampled_together(tmp_path):
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(15), 8)
    before = rng.random(120)
    after = before + rng.normal(size=15)[clusters]
    with Store(tmp_path) as store:
        for temperature, scores in (("1.0", before), ("0.9", after)):
            add(store, replace(UNIT, temperature=temperature), scores, tokens=100 * clusters, clusters=clusters)
    with pytest.warns(UserWarning, match=r"^lengths without a row: A \(2 of 2\); they have fewer than 10 items, or"):
        found = compare(tmp_path, bins=[750])
    task = found[found.scope == "task"].iloc[0]
    changes = (after - before).reshape(15, 8)
    # the standard error of a mean of 15 independent changes, not of 120, which would be smaller by the square root of 8
    error = changes[:, 0].std() / np.sqrt(15)
    assert np.isclose(task.half_width, 1.96 * error, rtol=0.1)
    assert np.isclose((task.low + task.high) / 2, changes.mean(), atol=0.2 * error)
    # eight and seven clusters are fewer than ten, whatever the number of items
    assert "length" not in set(found.scope)


STATES = {
    "data": ({"data_hash": "d1"}, {"data_hash": "d2"}, r"\(A, 2 of 4 units of other data\)"),
    "model": ({"model_hash": "m1"}, {"model_hash": "m2"}, r"\(minilm, 2 of 4 units of another model\)"),
}


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("newest_first", [False, True])
def test_what_changed_under_one_name_is_never_pooled(tmp_path, kind, newest_first):
    """The newest is what was measured last, whatever the hashes are called."""
    *states, warning = STATES[kind]
    rng = np.random.default_rng(12)
    sizes = {"old": 30, "new": 19} if kind == "data" else {"old": 30, "new": 30}
    scores = {age: noisy(rng, n, gain) for (age, n), gain in zip(sizes.items(), (0.1, 0.3), strict=True)}
    with Store(tmp_path) as store:
        for age, state in zip(sizes, reversed(states) if newest_first else states, strict=True):
            for temperature, values in zip(("1.0", "0.9"), scores[age], strict=True):
                add(store, replace(UNIT, temperature=temperature, **state), values)
    with pytest.warns(UserWarning, match=f"^older results under the same name are left out {warning}: versions='all'"):
        (row,) = compare(tmp_path).query("scope == 'task'").to_dict("records")
    gains = {age: (after - before).mean() for age, (before, after) in scores.items()}
    assert np.isclose(row["difference"], gains["new"])
    assert row["items"] == sizes["new"]
    both = compare(tmp_path, versions="all")
    rows = both.query("scope == 'task'")
    assert np.allclose(rows.difference.sort_values(), sorted(gains.values()))
    name = f"{kind}_hash"
    assert rows[name].nunique() == 2
    overall = both.query("scope == 'overall'")
    expected = [gains["new"]] if kind == "data" else sorted(gains.values())
    assert np.allclose(overall.difference.sort_values(), expected), "a task counts once"


def test_the_newest_data_are_those_of_all_parts_of_a_task(tmp_path):
    with Store(tmp_path) as store:
        for split, data in (("dev", "d1"), ("test", "d1"), ("test", "d2")):
            for temperature in ("1.0", "0.9"):
                add(store, replace(UNIT, split=split, data_hash=data, temperature=temperature), np.arange(20.0))
    with pytest.warns(UserWarning, match=r"\(A, 4 of 6 units of other data\)"):
        assert compare(tmp_path).query("scope == 'task'").split.tolist() == ["test"]


def test_versions_have_two_names(filled):
    with pytest.raises(ValueError, match="versions must be 'newest' or 'all', not 'old'"):
        compare(filled[0], versions="old")


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({"1.0": {"torch": "2.8"}, "0.9": {"torch": "2.8"}}, None),
        (
            {"1.0": {"torch": "2.8"}, "0.9": {"torch": "2.9"}},
            r"torch \(2\.8 in 1 unit, 2\.9 in 1 unit\), also on one task",
        ),
        ({"1.0": {"mteb": "2", "torch": "1"}, "0.9": {"torch": "1"}}, r"mteb \(2 in 1 unit, none in 1 unit\), also"),
    ],
)
def test_packages_that_differ_are_said(tmp_path, versions, message, recwarn):
    with Store(tmp_path) as store:
        for temperature, packages in versions.items():
            items = [Item(str(n), None, n / 7) for n in range(20)]
            measured = replace(MEASURED, main_score=19 / 14, versions=json.dumps(packages))
            store.add(replace(UNIT, temperature=temperature), measured, items)
    compare(tmp_path)
    said = [str(one.message) for one in recwarn]
    assert len(said) == (message is not None)
    assert all(re.match(f"measured with different versions of {message}", one) for one in said)


def test_an_altered_unit_is_named(filled):
    out, _ = filled
    with sqlite3.connect(out / FILE) as database:
        database.execute(
            "UPDATE item SET score = 0.5 WHERE position = 3 AND unit IN (SELECT id FROM unit WHERE task = 'C' "
            "AND temperature = '0.9' AND layers = 'all')"
        )
    database.close()
    with (
        pytest.warns(UserWarning, match=r"^1 unit was altered since \(C test at 0\.9\), and is left out: run evaluate"),
        pytest.warns(UserWarning, match="settings lack some of the 3 tasks"),
    ):
        rows = compare(out).query("scope == 'task' and task == 'C'")
    assert [row.layers for row in rows.itertuples() if row.temperature == "0.9"] == ["last:3"]


@pytest.mark.filterwarnings("ignore:1 of 2 settings lack some of the 2 tasks")
@pytest.mark.parametrize("undefined", ["baseline", "setting", "items", "constant"])
@pytest.mark.parametrize("ranked", [False, True])
def test_scores_that_are_not_defined(tmp_path, undefined, ranked):
    rng = np.random.default_rng(13)
    target = rng.random(30) if ranked else None
    with Store(tmp_path) as store:
        for task in ("A", "B"):
            for temperature in ("1.0", "0.9", "0.8"):
                values, main = rng.random(30), None
                if task == "A" and temperature == ("1.0" if undefined == "baseline" else "0.9"):
                    main = np.nan
                    if undefined == "items":
                        values[3] = np.nan
                    if undefined in ("constant", "baseline", "setting"):
                        values[:] = 0.5 if ranked else np.nan
                add(store, replace(UNIT, task=task, temperature=temperature), values, target=target, main=main)
    lost = ["A at 0.9", "A at 0.8"] if undefined == "baseline" else ["A at 0.9"]
    with pytest.warns(UserWarning, match=f"^not defined, and left out of the means over tasks: {', '.join(lost)};"):
        frame = compare(tmp_path, lengths=False)
    rows = frame[frame.scope == "task"]
    nothing = rows[rows.difference.isna()]
    assert [f"{row.task} at {row.temperature}" for row in nothing.itertuples()] == lost
    assert rows.low.isna().sum() == len(lost)
    of_b = rows[rows.task == "B"].set_index("temperature").difference
    overall = frame[frame.scope == "overall"].set_index("temperature").difference
    assert np.isclose(overall["0.9"], of_b["0.9"])


def classified(rng, n=200, sets=10, gain=0.0, spread=0.05):
    """Whether an item is right with each training set, (sets, n), under a baseline and a setting."""
    chance = 0.7 + np.array([0, gain])[:, None] + spread * rng.normal(size=(2, sets))
    return (rng.random((sets, n)) < chance[:, :, None]).astype(float)


CLASSIFICATION = replace(UNIT, task_type="Classification")


def test_training_sets_widen_the_interval_of_a_classification(tmp_path):
    before, after = classified(np.random.default_rng(14))
    with Store(tmp_path) as store:
        for temperature, right in (("1.0", before), ("0.9", after)):
            unit = replace(CLASSIFICATION, temperature=temperature)
            add(store, unit, right.mean(axis=0), experiments=right.mean(axis=1), tokens=np.arange(200))
    found = compare(tmp_path, resamples=20_000)
    row = found[found.scope == "task"].iloc[0]
    assert row.interval == "items and training sets"
    changes = after - before
    over_items, over_sets = (changes.mean(axis=axis).std(ddof=1) ** 2 / changes.shape[1 - axis] for axis in (0, 1))
    assert np.isclose((row.high_conditional - row.low_conditional) / 2, 1.96 * np.sqrt(over_items), rtol=0.05)
    # a Student t with nine degrees of freedom is wider than the normal distribution of its variance
    wide = stats.norm.rvs(size=100_000, random_state=1) * np.sqrt(over_items)
    wide = wide + stats.t.rvs(9, size=100_000, random_state=2) * np.sqrt(over_sets)
    assert np.isclose(row.half_width, np.quantile(np.abs(wide), 0.95), rtol=0.05)
    assert np.isclose(row.p, (np.abs(wide) >= abs(changes.mean())).mean(), atol=0.03)
    lengths = found[found.scope == "length"]
    assert set(lengths.interval) == {"items, training sets fixed"}
    assert lengths.low.tolist() == lengths.low_conditional.tolist()


@pytest.mark.parametrize("lacking", ["unit", "metric", "number", "none"])
def test_training_sets_that_are_not_known_are_held_fixed(tmp_path, lacking):
    before, after = classified(np.random.default_rng(15))
    sets = {"1.0": before.mean(axis=1).tolist(), "0.9": after.mean(axis=1).tolist()}
    if lacking == "unit":  # measured before they were kept
        sets["1.0"] = None
    if lacking == "metric":
        sets["1.0"][3] = None
    if lacking == "number":  # not those of the score
        sets["0.9"] = sets["0.9"][:4]
    with Store(tmp_path) as store:
        for temperature, right in (("1.0", before), ("0.9", after)):
            unit = replace(CLASSIFICATION, temperature=temperature)
            add(store, unit, right.mean(axis=0), experiments=sets[temperature] if lacking != "metric" else [
                np.nan if one is None else one for one in sets[temperature]])  # fmt: skip
    row = compare(tmp_path).query("scope == 'task'").iloc[0]
    known = lacking == "none"
    assert row.interval == ("items and training sets" if known else "items, training sets fixed")
    assert ((row.low, row.high) == (row.low_conditional, row.high_conditional)) is not known


def paired_texts(rng, n, hubs):
    """Ids of two sentences for each of n pairs, the first one of a few."""
    first = rng.integers(hubs, size=n)
    return first, [f"s{one} t{number}" for number, one in enumerate(first)]


def test_pairs_that_share_a_sentence_widen_the_interval(tmp_path):
    rng = np.random.default_rng(16)
    first, texts = paired_texts(rng, 120, 20)
    target = 2 * rng.normal(size=20)[first] + rng.normal(size=120)
    before = target + rng.normal(size=120)
    after = before + rng.normal(size=20)[first]
    found = {}
    for name, given in (("items that share texts", texts), ("items", [f"a{n} b{n}" for n in range(120)])):
        with Store(tmp_path / name) as store:
            for temperature, scores in (("1.0", before), ("0.9", after)):
                add(
                    store,
                    replace(UNIT, temperature=temperature),
                    scores,
                    target=target,
                    texts=given,
                    tokens=np.arange(120),
                )
        found[name] = compare(tmp_path / name, bins=2)
        assert set(found[name].interval) == {name}
    together, apart = found.values()
    assert np.allclose(together.difference, apart.difference)
    # the jackknife, for all pairs
    everything = np.arange(120)
    psi = np.array([statistic(after[k], target[k]) - statistic(before[k], target[k])
                    for k in (everything != n for n in everything)])  # fmt: skip
    psi -= psi.mean()
    factor = np.sqrt(sum(psi[first == one].sum() ** 2 for one in range(20)) / (psi**2).sum())
    ratio = (together.half_width / apart.half_width)[together.scope == "task"].item()
    assert factor > 1.2
    assert np.isclose(ratio, factor, rtol=0.05)
    assert (together.p >= apart.p).all()


def test_within_sources_each_source_counts_once(tmp_path):
    """A setting that only tells sources apart gains over all, and nothing within."""
    rng = np.random.default_rng(17)
    sources = rng.permutation(np.repeat(["news", "forum", "tweets", None], [60, 30, 9, 5]))
    level = np.select([sources == "news", sources == "forum"], [2.0, -2.0], 0.0)
    target = level + rng.normal(size=104)
    before = target - level + rng.normal(size=104)
    after, noisier = before + level, before + rng.normal(size=104)
    with Store(tmp_path) as store:
        for temperature, scores in (("1.0", before), ("0.9", after), ("0.8", noisier)):
            add(
                store,
                replace(UNIT, temperature=temperature),
                scores,
                target=target,
                sources=sources,
                tokens=np.arange(104),
            )
    found = compare(tmp_path)
    row, other = (found[(found.scope == "task") & (found.temperature == one)].iloc[0] for one in ("0.9", "0.8"))
    assert row.sources == 2, "nine items are too few, and some are of no known source"
    assert row.difference > 0.2
    assert np.isclose(row.within, 0, atol=1e-12), "within a source the ranks are the same"
    assert (row.within_low, row.within_high, row.within_p) == (pytest.approx(0), pytest.approx(0), 1)
    by_loop = [
        statistic(noisier[sources == name], target[sources == name])
        - statistic(before[sources == name], target[sources == name])
        for name in ("news", "forum")
    ]
    assert np.isclose(other.within, np.mean(by_loop))
    assert other.within_low < other.within < other.within_high
    assert other.within_p < 0.05
    rest = found[found.scope != "task"]
    assert rest[["within", "within_low", "within_high", "within_p", "sources"]].isna().all(axis=None)


@pytest.mark.parametrize("kind", ["mean", "one source", "unranked"])
def test_no_difference_within_sources(tmp_path, kind):
    rng = np.random.default_rng(18)
    target = np.where(np.arange(40) < 20, 1.0, rng.normal(size=40)) if kind == "unranked" else rng.normal(size=40)
    sources = np.repeat(["a", "a" if kind == "one source" else "b"], 20)
    with Store(tmp_path) as store:
        for temperature in ("1.0", "0.9"):
            scores = rng.random(40)
            gold = None if kind == "mean" else target
            add(store, replace(UNIT, temperature=temperature), scores, target=gold, sources=sources)
    row = compare(tmp_path).query("scope == 'task'").iloc[0]
    assert row[["within", "within_low", "within_high", "within_p", "sources"]].isna().all()
    assert row.low < row.high


def test_overall_compares_settings_on_the_same_tasks(tmp_path):
    """Two settings on three tasks, three on two of them, and one on another two."""
    rng = np.random.default_rng(19)
    tasks = {"0.95": "ABC", "0.9": "ABC", "0.8": "AB", "0.7": "AB", "0.6": "AB", "0.5": "BC"}
    with Store(tmp_path) as store:
        for task in "ABC":
            before = rng.random(50)
            add(store, replace(UNIT, task=task), before)
            for temperature, run in tasks.items():
                if task in run:
                    after = before + rng.normal(0.02, 0.1, 50)
                    add(store, replace(UNIT, task=task, temperature=temperature), after)
    with pytest.warns(UserWarning, match="4 of 6 settings lack some of the 3 tasks"):
        frame = compare(tmp_path)
    rows = frame[frame.scope == "overall"].set_index("temperature")
    assert rows.tasks.to_dict() == {temperature: len(run) for temperature, run in tasks.items()}
    words = {"ABC": "the 2 settings run on these 3 tasks", "AB": "the 3 settings run on these 2 tasks",
             "BC": "the only setting run on these 2 tasks"}  # fmt: skip
    for run, family in words.items():
        members = rows.loc[[temperature for temperature, those in tasks.items() if those == run]]
        assert set(members.family) == {family}
        assert np.allclose(members.p_holm, holm_by_definition(members.p.tolist()))
    assert np.allclose(rows.p_holm_all, holm_by_definition(rows.p.tolist()))
    assert frame[frame.scope == "held-out overall"].tasks.tolist() == [3]
    assert frame[~frame.scope.isin(["overall", "held-out overall"])].tasks.isna().all()


def test_families_are_named_and_the_whole_table_is_one_more(filled):
    frame = compare(filled[0])
    tasks = frame[(frame.scope == "task") & frame.p.notna()]
    assert np.allclose(tasks.p_holm_all, holm_by_definition(tasks.p.tolist()))
    assert (tasks.p_holm_all >= tasks.p_holm - 1e-12).all()
    assert frame[~frame.scope.isin(["task", "overall"])].p_holm_all.isna().all()
    untested = frame[frame.p.isna()]
    assert set(untested.family) == {""}
    assert untested.p_holm_all.isna().all()
    families = frame[frame.p.notna()].groupby("scope").family.unique().map(list).to_dict()
    assert families == {
        "task": ["the 3 tasks of this setting"],
        "part": ["the 2 parts of this setting"],
        "length": ["the 16 length bins of this setting"],
        "overall": ["the 3 settings run on these 3 tasks"],
        "held-out": ["the 3 tasks held out"],
        "held-out overall": ["the only mean over held-out tasks"],
    }


def test_a_mean_over_tasks_says_all_that_was_resampled(tmp_path):
    rng = np.random.default_rng(20)
    with Store(tmp_path) as store:
        for temperature in ("1.0", "0.9"):
            scores = rng.random(40)
            unit = replace(UNIT, temperature=temperature)
            add(store, unit, scores, clusters=np.arange(40) // 2)
            add(store, replace(unit, task="B"), scores, clusters=np.arange(40))
            add(store, replace(unit, task="C", task_type="Classification"), scores, experiments=[scores.mean()] * 3)
    frame = compare(tmp_path).set_index(["scope", "task"]).interval
    assert frame["task"].to_dict() == {"A": "clusters of items", "B": "items", "C": "items and training sets"}
    assert frame["overall"].tolist() == ["clusters of items; items; items and training sets"]
    assert frame["held-out overall"].tolist() == frame["overall"].tolist()


def test_held_out_rows_are_conditional_on_training_sets_too(tmp_path):
    rng = np.random.default_rng(21)
    with Store(tmp_path) as store:
        for task in "AB":
            for temperature, right in zip(("1.0", "0.9"), classified(rng, gain=0.1), strict=True):
                unit = replace(CLASSIFICATION, task=task, temperature=temperature)
                add(store, unit, right.mean(axis=0), experiments=right.mean(axis=1))
    rows = compare(tmp_path).query("scope.str.startswith('held-out')", engine="python")
    assert (rows.low < rows.low_conditional).all()
    assert (rows.high_conditional < rows.high).all()


def test_a_table_too_large_for_its_resamples_is_said(tmp_path):
    rng = np.random.default_rng(23)
    with Store(tmp_path) as store:
        for task in "ABCDEFGHIJK":
            for temperature in ("1.0", "0.9"):
                add(store, replace(UNIT, task=task, temperature=temperature), rng.random(20))
    with pytest.warns(UserWarning, match="11 differences are too many for 200 resamples: .* or ask for 220 resamples"):
        compare(tmp_path, resamples=200)
    frame = compare(tmp_path, resamples=220)  # warnings are errors here
    assert frame.p_holm_all.min() >= 11 / 221
